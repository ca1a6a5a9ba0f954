// Vectors of numbers of any float type from memory and to it, whole or in part. Included after a definition of Lanes.
#pragma once

#include <cstdint>

#include "cpu/numbers.h"
#include "cpu/unroll.h"

namespace glasschat::cpu {
namespace {

GLASSCHAT_INLINE inline Lanes load_numbers(const void* from, Float type, int64_t index) {
    if (type == Float::f32) {
        return Lanes::load(static_cast<const float*>(from) + index);
    }
    const uint16_t* halves = static_cast<const uint16_t*>(from) + index;
    return type == Float::bf16 ? Lanes::load_bf16(halves) : Lanes::load_f16(halves);
}

GLASSCHAT_INLINE inline void store_numbers(const Lanes& lanes, void* to, Float type, int64_t index) {
    if (type == Float::f32) {
        return lanes.store(static_cast<float*>(to) + index);
    }
    uint16_t* halves = static_cast<uint16_t*>(to) + index;
    return type == Float::bf16 ? lanes.store_bf16(halves) : lanes.store_f16(halves);
}

// `count` numbers from `index` on as one vector; zeros fill it up.
GLASSCHAT_INLINE inline Lanes load_some(const void* from, Float type, int64_t index, int64_t count) {
    if (count >= 16) {
        return load_numbers(from, type, index);
    }
    float lanes[16] = {};
    for (int64_t i = 0; i < count; i++) {
        lanes[i] = numbers::load(from, type, index + i);
    }
    return Lanes::load(lanes);
}

// The first `count` numbers of a vector.
GLASSCHAT_INLINE inline void store_some(const Lanes& lanes, void* to, Float type, int64_t index, int64_t count) {
    if (count >= 16) {
        return store_numbers(lanes, to, type, index);
    }
    float wide[16];
    lanes.store(wide);
    for (int64_t i = 0; i < count; i++) {
        numbers::store(to, type, index + i, wide[i]);
    }
}

}  // namespace
}  // namespace glasschat::cpu
