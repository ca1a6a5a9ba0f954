// A row over the root of its mean square, times a weight (Zhang and Sennrich 2019), in one pass over memory: a
// threadgroup holds its row in registers. With a residual to add, the row is x + added, rounded, which is also left in
// `sum`. Bound by latency for a decode, by memory for a prompt.
#include "common.h"

constant bool kAdd [[function_constant(0)]];
constant int kHeld [[function_constant(1)]];  // vectors of four that a thread holds, 1 to kMostHeld

constant constexpr int kMostHeld = 4;

template <typename T>
[[kernel, max_total_threads_per_threadgroup(1024)]] void rms_norm(
    device const T* x [[buffer(0)]],
    device const T* added [[buffer(1)]],
    device const T* weight [[buffer(2)]],
    device T* out [[buffer(3)]],
    device T* sum [[buffer(4)]],
    constant RmsNormParams& p [[buffer(5)]],
    uint row [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint threads [[threads_per_threadgroup]],
    uint simd [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
    threadgroup float squares[kLanes];
    x += ulong(row) * p.stride;
    added += ulong(row) * p.width;
    out += ulong(row) * p.width;
    sum += ulong(row) * p.width;

    float4 held[kMostHeld];
    float own = 0;
    UNROLL
    for (int i = 0; i < kMostHeld; i++) {
        const int at = (i * int(threads) + int(thread_index)) * 4;
        const bool inside = i < kHeld && at < p.width;
        held[i] = inside ? load4(x + at) : float4(0.0f);
        if (kAdd && inside) {
            held[i] += load4(added + at);
            // What comes after sees the rounded sum.
            held[i] = float4(float(T(held[i].x)), float(T(held[i].y)), float(T(held[i].z)), float(T(held[i].w)));
            store4(sum + at, held[i]);
        }
        own += dot(held[i], held[i]);
    }
    own = simd_sum(own);
    if (lane == 0) {
        squares[simd] = own;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    // Every simdgroup adds up the few sums itself: cheaper than another barrier.
    const float total = simd_sum(lane < simdgroups ? squares[lane] : 0.0f);
    const float scale = precise::rsqrt(total / float(p.width) + p.eps);
    UNROLL
    for (int i = 0; i < kMostHeld; i++) {
        const int at = (i * int(threads) + int(thread_index)) * 4;
        if (i < kHeld && at < p.width) {
            store4(out + at, held[i] * scale * load4(weight + at));
        }
    }
}

#define RMS_NORM(NAME, T) KERNEL(rms_norm_##NAME, rms_norm<T>)
FOR_TYPES(RMS_NORM)
