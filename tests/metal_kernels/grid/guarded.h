// Numbers in memory that ends where a page begins that nobody may touch: who reads or writes one too many is stopped.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/buffer.h"

namespace grid {

// `size` bytes of zeros, ending at such a page; another lies before them. They begin at a multiple of `alignment`, so
// that up to alignment - 1 bytes after them may be touched. Throws std::bad_alloc.
glasschat::cpu::Buffer guarded(std::size_t size, std::size_t alignment);

template <class Number>
class Guarded {
   public:
    explicit Guarded(int64_t size) : size_(size), bytes_(guarded(size * sizeof(Number), alignof(Number))) {}
    explicit Guarded(const std::vector<Number>& from) : Guarded(static_cast<int64_t>(from.size())) {
        std::copy(from.begin(), from.end(), data());
    }

    int64_t size() const { return size_; }
    Number* data() { return reinterpret_cast<Number*>(bytes_.get()); }
    const Number* data() const { return reinterpret_cast<const Number*>(bytes_.get()); }
    Number& operator[](int64_t i) { return data()[i]; }
    const Number& operator[](int64_t i) const { return data()[i]; }

   private:
    int64_t size_;
    glasschat::cpu::Buffer bytes_;
};

}  // namespace grid
