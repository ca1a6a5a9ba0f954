// Memory to work in, which a thread keeps: a step asks for the same sizes in every layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace glasschat::cpu {

// From a cache line's start, so that no vector lies in two lines.
template <class Number>
struct LineAllocator {
    using value_type = Number;
    static constexpr std::align_val_t kLine{64};

    LineAllocator() = default;
    template <class Other>
    LineAllocator(const LineAllocator<Other>&) {}

    Number* allocate(std::size_t count) {
        return static_cast<Number*>(::operator new(count * sizeof(Number), kLine));
    }
    void deallocate(Number* start, std::size_t) { ::operator delete(start, kLine); }

    template <class Other>
    bool operator==(const LineAllocator<Other>&) const {
        return true;
    }
};

template <class Number>
using Scratch = std::vector<Number, LineAllocator<Number>>;

// Room for `size` numbers that only grows.
template <class Number>
Number* scratch(Scratch<Number>& kept, int64_t size) {
    if (static_cast<int64_t>(kept.size()) < size) {
        kept.resize(size);
    }
    return kept.data();
}

}  // namespace glasschat::cpu
