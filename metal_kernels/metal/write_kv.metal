// Puts a step's keys, or values, into their slots of the pool, which is written in place. Bound by memory.
#include "common.h"

// Rows [T, H * D] of T to floats of S; a thread moves four neighbours.
template <typename T, typename S>
[[kernel]] void write_kv(
    device const T* rows [[buffer(0)]],
    device const int* slots [[buffer(1)]],
    device S* pool [[buffer(2)]],
    constant WriteKvParams& p [[buffer(3)]],
    uint2 at [[thread_position_in_grid]]) {
    const int column = int(at.x) * 4;
    if (column < p.width) {
        store4(pool + ulong(slots[at.y]) * p.width + column, load4(rows + ulong(at.y) * p.stride + column));
    }
}

// To integers in groups of 32, a group to a simdgroup and an element to a lane. A group's smallest element becomes 0
// and its largest the highest integer, up to the rounding of scale and bias; what is not a number makes its whole group
// so.
template <typename T, int BITS>
[[kernel, max_total_threads_per_threadgroup(128)]] void write_kv_groups(
    device const T* rows [[buffer(0)]],
    device const int* slots [[buffer(1)]],
    device uint* words [[buffer(2)]],
    device half* scales [[buffer(3)]],
    device half* biases [[buffer(4)]],
    constant WriteKvParams& p [[buffer(5)]],
    uint2 at [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]]) {
    constexpr float kLevels = float((1 << BITS) - 1);
    constexpr uint kPerWord = 32 / BITS;
    const int column = int(at.x);
    if (column >= p.width) {
        return;  // all of the simdgroup: the width is a multiple of 32, and there are no barriers
    }
    const float x = float(rows[ulong(at.y) * p.stride + column]);
    // Minimum and maximum may pass over a NaN; a sum never does, and infinity times zero is one.
    const float low = simd_min(x), high = simd_max(x), poison = simd_sum(x * 0.0f);
    const half bias = half(low + poison), scale = half((high - low) / kLevels);
    const float step = float(scale);
    const float inverse = step == 0.0f ? 0.0f : 1.0f / step;
    float q = (x - float(bias)) * inverse;
    q = q > 0.0f ? q : 0.0f;  // and what is not a number
    q = q < kLevels ? q : kLevels;

    const ulong token = ulong(slots[at.y]) * p.width;
    uint word = uint(rint(q)) << (BITS * (lane % kPerWord));
    for (uint apart = 1; apart < kPerWord; apart *= 2) {
        word |= simd_shuffle_xor(word, ushort(apart));
    }
    if (lane % kPerWord == 0) {
        words[(token + column) / kPerWord] = word;
    }
    if (lane == 0) {
        scales[(token + column) / 32] = scale;
        biases[(token + column) / 32] = bias;
    }
}

#define WRITES(NAME, T)                                   \
    KERNEL(write_kv_##NAME##_f32, write_kv<T, float>)     \
    KERNEL(write_kv_##NAME##_f16, write_kv<T, half>)      \
    KERNEL(write_kv_##NAME##_bf16, write_kv<T, bfloat>)   \
    KERNEL(write_kv_##NAME##_int8, write_kv_groups<T, 8>) \
    KERNEL(write_kv_##NAME##_int4, write_kv_groups<T, 4>)
FOR_TYPES(WRITES)
