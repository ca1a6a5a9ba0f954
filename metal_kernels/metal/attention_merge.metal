// The end of a decode whose context was shared out: the parts of a row are weighted by their largest scores and added
// up, in the order of the context. Bound by memory; a simdgroup has one row.
#include "attention.h"

constant int kRows [[function_constant(2)]];  // of a tile

template <typename T, int D>
[[kernel]] void attention_merge(
    device const float* mixed [[buffer(0)]],   // [tiles, H, kRows, splits, D]
    device const float2* parts [[buffer(1)]],  // [tiles, H, kRows, splits]
    device const int2* tiles [[buffer(2)]],
    device const int* query_starts [[buffer(3)]],
    device const int* context_lens [[buffer(4)]],
    device T* out [[buffer(5)]],
    constant AttentionParams& p [[buffer(6)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint simd [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
    const int first_row = tiles[group.x].y, row = first_row + int(simd);
    const Rows rows = rows_of(tiles[group.x].x, int(group.y), query_starts, context_lens, p);
    if (row >= rows.count) {
        return;  // all of the simdgroup, and there are no barriers
    }
    const ulong first = ((ulong(group.x) * p.kv_heads + group.y) * kRows + simd) * p.splits;
    float top = kLowest;
    for (int s = int(lane); s < p.splits; s += kLanes) {
        top = max(top, parts[first + s].x);
    }
    top = simd_max(top);

    constexpr int kOwn = (D + kLanes - 1) / kLanes;
    float own[kOwn] = {}, all = 0;
    for (int s = 0; s < p.splits; s++) {
        const float2 part = parts[first + s];
        const float weight = fast::exp2(part.x - top);
        all = fma(weight, part.y, all);
        UNROLL
        for (int i = 0; i < kOwn; i++) {
            const int at = i * kLanes + int(lane);
            if (at < D) {
                own[i] = fma(weight, mixed[(first + s) * D + at], own[i]);
            }
        }
    }
    UNROLL
    for (int i = 0; i < kOwn; i++) {
        const int at = i * kLanes + int(lane);
        if (at < D) {
            out[rows.place(row) * D + at] = T(all > 0 ? own[i] / all : 0.0f);
        }
    }
}

#define MERGES(NAME, T)                                           \
    KERNEL(attention_merge_##NAME##_d64, attention_merge<T, 64>)  \
    KERNEL(attention_merge_##NAME##_d80, attention_merge<T, 80>)  \
    KERNEL(attention_merge_##NAME##_d96, attention_merge<T, 96>)  \
    KERNEL(attention_merge_##NAME##_d128, attention_merge<T, 128>)
FOR_TYPES(MERGES)
