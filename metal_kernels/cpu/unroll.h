// Loops whose counts the compiler must know, because what they index are registers.
#pragma once

#include <cstdint>
#include <utility>

#define GLASSCHAT_INLINE __attribute__((always_inline))

namespace glasschat::cpu {
namespace {

// Calls body with the numbers 0 to Count - 1 as constants.
template <int Count, class Body>
GLASSCHAT_INLINE inline void unroll(Body&& body) {
    [&]<int... I>(std::integer_sequence<int, I...>) GLASSCHAT_INLINE {
        (body(std::integral_constant<int, I>{}), ...);
    }(std::make_integer_sequence<int, Count>{});
}

// Calls body(size, start) for runs of `Most`, then of a half of it, and so on, until `end`.
template <int Most, class Body>
GLASSCHAT_INLINE inline void in_runs(int64_t first, int64_t end, Body&& body) {
    while (end - first >= Most) {
        body(std::integral_constant<int, Most>{}, first);
        first += Most;
    }
    if constexpr (Most > 1) {
        in_runs<Most / 2>(first, end, body);
    }
}

// The same with one last run of whatever is left: 7 rows are one run, where halving would make three.
template <int Most, class Body>
GLASSCHAT_INLINE inline void in_exact_runs(int64_t first, int64_t end, Body&& body) {
    while (end - first >= Most) {
        body(std::integral_constant<int, Most>{}, first);
        first += Most;
    }
    unroll<Most - 1>([&](auto i) GLASSCHAT_INLINE {
        if (end - first == i + 1) {
            body(std::integral_constant<int, i + 1>{}, first);
        }
    });
}

}  // namespace
}  // namespace glasschat::cpu
