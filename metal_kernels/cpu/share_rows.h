// Row after row of numbers, each gone through once: work for all threads, or for one if it is little.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/pool.h"

namespace glasschat::cpu {

// Numbers below which waking other threads costs more than they bring.
inline constexpr int64_t kRowsWorthSharing = 1 << 14;

// Calls body(first, end) for all rows of `width` numbers, on several threads where that pays.
template <class Body>
void share_rows(int64_t rows, int64_t width, const Body& body) {
    if (rows * width < kRowsWorthSharing) {
        return body(0, rows);
    }
    // More chunks than threads, so that a thread that was held up leaves its share to the others.
    const int64_t step = std::max<int64_t>(1, rows / (4 * threads()));
    parallel_for((rows + step - 1) / step, [&](int64_t chunk) {
        body(chunk * step, std::min(rows, (chunk + 1) * step));
    });
}

}  // namespace glasschat::cpu
