// The probes, in terms of Lanes, Words and Dots.
#pragma once

#include <cstdint>

#include "cpu/probe.h"
#include "cpu/unroll.h"

namespace glasschat::cpu {
namespace {

// Sums that don't wait for each other: as many as the latency of a multiplication times what can begin in a cycle.
constexpr int kChains = 12;
constexpr int kReadAhead = 2048;

float read_all(const uint8_t* from, int64_t bytes) {
    constexpr int kStreams = 4;
    Lanes sums[kStreams];
    unroll<kStreams>([&](auto i) GLASSCHAT_INLINE { sums[i] = Lanes::zero(); });
    for (int64_t at = 0; at + kStreams * 64 <= bytes; at += kStreams * 64) {
        unroll<kStreams>([&](auto i) GLASSCHAT_INLINE {
            __builtin_prefetch(from + at + i * 64 + kReadAhead);
            sums[i] = sums[i] + Lanes::load(reinterpret_cast<const float*>(from + at + i * 64));
        });
    }
    return (sums[0] + sums[1] + (sums[2] + sums[3])).sum();
}

float multiply_floats(int64_t rounds) {
    Lanes sums[kChains];
    // Near one, and not known to the compiler: it may neither fold the loop nor meet a subnormal number.
    volatile float near_one = 0.999999f, little = 1e-6f;
    const Lanes factor = Lanes::all(near_one), other = Lanes::all(little);
    unroll<kChains>([&](auto i) GLASSCHAT_INLINE { sums[i] = Lanes::all(1.0f + 0.1f * i); });
    for (int64_t round = 0; round < rounds; round++) {
        unroll<kChains>([&](auto i) GLASSCHAT_INLINE { sums[i] = sums[i].plus_product(factor, other); });
    }
    Lanes total = Lanes::zero();
    unroll<kChains>([&](auto i) GLASSCHAT_INLINE { total = total + sums[i]; });
    return total.sum();
}

float multiply_bytes(int64_t rounds) {
    uint8_t bytes[64];
    volatile int first = 1;
    for (int i = 0; i < 64; i++) {
        bytes[i] = static_cast<uint8_t>((first + i) % 16);
    }
    const Words weights = Words::load(bytes);
    int32_t four = first;
    Dots sums[kChains];
    unroll<kChains>([&](auto i) GLASSCHAT_INLINE { sums[i] = Dots::zero().template plus<4>(weights, four + i); });
    for (int64_t round = 0; round < rounds; round++, four++) {
        // One number for all: to spread it over a register takes as long as a product does.
        unroll<kChains>([&](auto i) GLASSCHAT_INLINE { sums[i] = sums[i].template plus<4>(weights, four); });
    }
    Lanes total = Lanes::zero();
    unroll<kChains>([&](auto i) GLASSCHAT_INLINE { total = total + sums[i].floats(); });
    return total.sum();
}

constexpr ProbeKernels kProbe = {read_all, multiply_floats, multiply_bytes, kChains * 16 * 2, kChains * 64 * 2};

}  // namespace
}  // namespace glasschat::cpu
