// What the drivers of all kernels share: which instruction set's kernels are in force, and memory to work in.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/features.h"

namespace glasschat::cpu {

#if defined(__x86_64__)
template <class Kernels>
const Kernels& in_force(const Kernels& portable, const Kernels& avx2, const Kernels& avx512) {
    return level() >= Level::avx512 ? avx512 : level() >= Level::avx2 ? avx2 : portable;
}
#define GLASSCHAT_IN_FORCE(kind) in_force(kPortable##kind, kAvx2##kind, kAvx512##kind)
#elif defined(__aarch64__)
template <class Kernels>
const Kernels& in_force(const Kernels& portable, const Kernels& neon) {
    return level() >= Level::neon ? neon : portable;
}
#define GLASSCHAT_IN_FORCE(kind) in_force(kPortable##kind, kNeon##kind)
#else
#define GLASSCHAT_IN_FORCE(kind) kPortable##kind
#endif

// Room for `size` numbers that grows and is kept: a step asks for the same sizes in every layer.
template <class Number>
Number* scratch(std::vector<Number>& kept, int64_t size) {
    if (static_cast<int64_t>(kept.size()) < size) {
        kept.resize(size);
    }
    return kept.data();
}

}  // namespace glasschat::cpu
