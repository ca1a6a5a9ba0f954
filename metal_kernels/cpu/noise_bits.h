// The random bits of a token in a draw: the same as `gumbel` of the operations makes its noise from.
#pragma once

#include <cstdint>

namespace glasschat::cpu {
namespace {

// A 32-bit hash of low bias; constants found by Wellons 2018, "Prospecting for hash functions".
inline uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}

inline uint32_t noise_bits(uint32_t low, uint32_t high, uint32_t id) {
    return mix(mix(id ^ low) + high);
}

}  // namespace
}  // namespace glasschat::cpu
