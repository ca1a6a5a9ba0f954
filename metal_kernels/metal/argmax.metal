// The id of each row's largest number, the lowest of equal ones: greedy decoding. Where that is not finite, or one of
// the numbers is NaN, it is `width`, which is no id. With noise, a draw: the largest of logit / temperature + Gumbel
// noise (Gumbel 1954; Maddison et al. 2014, "A* sampling"), over all ids of the row or over those listed, such as the
// top k. The noise is a hash of the draw's key and the id, the numbers of sampling/noise.py, so a draw does not depend
// on the rest of the batch. Bound by memory; a threadgroup has one row.
#include "common.h"

constant bool kDraw [[function_constant(0)]];
constant bool kListed [[function_constant(1)]];

constant constexpr uint kNone = 0xffffffffu;

// A 32-bit hash of low bias (Wellons 2018, "Prospecting for hash functions").
inline uint mix(uint x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

// log(1 + x), also for small x, which 1 + x rounds away: its logarithm is that of the rounded sum, times what the
// rounding changed (Kahan; Goldberg 1991, theorem 4).
inline float log_of_one_plus(float x) {
    const float sum = 1.0f + x;
    return sum == 1.0f ? x : precise::log(sum) * (x / (sum - 1.0f));
}

inline float gumbel(uint2 key, uint id) {
    const uint bits = mix(mix(id ^ key.x) + key.y);
    const float uniform = min((float(bits) + 0.5f) * 2.3283064e-10f, 0.99999994f);
    return -precise::log(-log_of_one_plus(-uniform));
}

// By its bits: a compiler that takes arithmetic to be finite would leave out any comparison.
inline bool is_nan(float x) {
    return (as_type<uint>(x) & 0x7fffffffu) > 0x7f800000u;
}

struct Best {
    float score;
    uint id;
};

inline Best better(Best a, Best b) {
    const bool second = b.score > a.score || (b.score == a.score && b.id < a.id);
    return second ? b : a;
}

inline Best best_of_simdgroup(Best own) {
    const float score = simd_max(own.score);
    return {score, simd_min(own.score == score ? own.id : kNone)};
}

[[kernel, max_total_threads_per_threadgroup(1024)]] void argmax_f32(
    device const float* logits [[buffer(0)]],        // [R, width]
    device const uint* listed [[buffer(1)]],         // [R, count], with kListed
    device const uint2* keys [[buffer(2)]],          // [R], low and high half, with kDraw
    device const float* temperatures [[buffer(3)]],  // [R], with kDraw
    device uint* ids [[buffer(4)]],                  // [R]
    constant ArgmaxParams& p [[buffer(5)]],
    uint row [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint threads [[threads_per_threadgroup]],
    uint simd [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
    threadgroup float scores[kLanes];
    threadgroup uint best_ids[kLanes];
    threadgroup uint broken_room[kLanes];
    logits += ulong(row) * p.width;
    Best best = {-INFINITY, kNone};
    bool broken = false;
    for (int i = int(thread_index); i < p.count; i += int(threads)) {
        const uint id = kListed ? listed[ulong(row) * p.count + i] : uint(i);
        float score = logits[id];
        broken |= is_nan(score) || score == INFINITY;
        if (kDraw) {
            score = score / temperatures[row] + gumbel(keys[row], id);
        }
        const Best candidate = {score, id};
        best = better(best, candidate);
    }
    best = best_of_simdgroup(best);
    const bool any_broken = simd_any(broken);
    if (lane == 0) {
        scores[simd] = best.score;
        best_ids[simd] = best.id;
        broken_room[simd] = any_broken ? 1 : 0;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (simd == 0) {
        best = {-INFINITY, kNone};
        broken = false;
        if (lane < simdgroups) {
            best = {scores[lane], best_ids[lane]};
            broken = broken_room[lane] != 0;
        }
        best = best_of_simdgroup(best);
        broken = simd_any(broken) || best.score == -INFINITY;
        if (lane == 0) {
            ids[row] = broken ? uint(p.width) : best.id;
        }
    }
}
