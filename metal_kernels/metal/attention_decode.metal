// Attention over paged keys and values for sequences with few rows: a decode, or the check of a few drafts. Bound by
// reading keys and values from memory; a long context is shared out over threadgroups, each leaving its part for
// attention_merge (flash decoding, Dao et al. 2023; the two passes of MLX's sdpa_vector).
//
// A threadgroup has up to ROWS rows, and so reads a key once for the heads that share it. A simdgroup has 2 or 4 keys
// side by side, 16 or 8 lanes to each, so that a product of query and key ends with 3 or 4 shuffles for several keys
// instead of 5 for each; and four such sets at a time, so that the running maximum is corrected once for all of them,
// and eight loads are in flight. Lanes with different keys have running maxima of their own until the end.
#include "attention.h"

constant constexpr int kSimdgroups = 4;
constant constexpr int kSets = 4;  // of keys at a time

template <typename T, typename S, int D, int ROWS>
[[kernel, max_total_threads_per_threadgroup(128)]] void attention_decode(
    device const T* q [[buffer(0)]],
    device const typename Pool<S>::Unit* keys [[buffer(1)]],
    device const half* key_scales [[buffer(2)]],
    device const half* key_biases [[buffer(3)]],
    device const typename Pool<S>::Unit* values [[buffer(4)]],
    device const half* value_scales [[buffer(5)]],
    device const half* value_biases [[buffer(6)]],
    device const int2* tiles [[buffer(7)]],
    device const int* query_starts [[buffer(8)]],
    device const int* context_lens [[buffer(9)]],
    device const int* tables [[buffer(10)]],
    device T* out [[buffer(11)]],       // with kParts, floats [tiles, H, ROWS, splits, D]: each part's mixed values
    device float2* parts [[buffer(12)]],  // with kParts, [tiles, H, ROWS, splits]: largest score, sum of weights
    constant AttentionParams& p [[buffer(13)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint3 groups [[threadgroups_per_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint simd [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
    constexpr int kAcross = D > 96 ? 16 : 8;       // lanes that share a key
    constexpr int kBeside = kLanes / kAcross;      // keys side by side
    constexpr int kVector = D % 32 == 0 ? 4 : 2;   // neighbouring elements of a lane
    constexpr int kOwn = D / kAcross;              // elements of a lane
    threadgroup float largest_room[kSimdgroups * ROWS];
    threadgroup float sum_room[kSimdgroups * ROWS];
    threadgroup float mixed_room[kSimdgroups * ROWS * D];

    const int sequence = tiles[group.x].x, first_row = tiles[group.x].y;
    const Rows rows = rows_of(sequence, int(group.y), query_starts, context_lens, p);
    device const int* table = tables + ulong(sequence) * p.table_width;
    const int beside = int(lane) / kAcross, across = int(lane) % kAcross;

    float queries[ROWS][kOwn], mixed[ROWS][kOwn] = {}, largest[ROWS], sum[ROWS];
    int limit[ROWS];
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        const int row = min(first_row + r, rows.count - 1);
        device const T* from = q + rows.query(row, D);
        UNROLL
        for (int i = 0; i < kOwn; i++) {
            const int at = (i / kVector * kAcross + across) * kVector + i % kVector;
            queries[r][i] = float(from[at]) * (p.scale * M_LOG2E_F);
        }
        limit[r] = rows.limit(row), largest[r] = kLowest, sum[r] = 0;
    }

    const int begin = int(group.z) * p.part;
    const int end = min(begin + p.part, limit[ROWS - 1]);
    for (int first = begin + int(simd) * kSets * kBeside; first < end; first += kSimdgroups * kSets * kBeside) {
        ulong places[kSets];
        float scores[ROWS][kSets];
        UNROLL
        for (int s = 0; s < kSets; s++) {
            const int key = first + s * kBeside + beside;
            places[s] = key_place<D>(table, min(key, end - 1), rows.kv_head, p);
            float elements[kOwn];
            UNROLL
            for (int i = 0; i < kOwn; i += kVector) {
                const ulong at = places[s] + (i / kVector * kAcross + across) * kVector;
                if constexpr (kVector == 4) {
                    const float4 four = Pool<S>::four(keys, key_scales, key_biases, at);
                    UNROLL
                    for (int e = 0; e < kVector; e++) {
                        elements[i + e] = four[e];
                    }
                } else {
                    const float2 two = Pool<S>::two(keys, key_scales, key_biases, at);
                    elements[i] = two.x, elements[i + 1] = two.y;
                }
            }
            UNROLL
            for (int r = 0; r < ROWS; r++) {
                float score = 0;
                UNROLL
                for (int i = 0; i < kOwn; i++) {
                    score = fma(queries[r][i], elements[i], score);
                }
                for (int apart = kAcross / 2; apart > 0; apart /= 2) {
                    score += simd_shuffle_xor(score, ushort(apart));
                }
                scores[r][s] = key < min(end, limit[r]) ? score : kLowest;
            }
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            float top = largest[r];
            UNROLL
            for (int s = 0; s < kSets; s++) {
                top = max(top, scores[r][s]);
            }
            const float kept = fast::exp2(largest[r] - top);
            largest[r] = top;
            sum[r] *= kept;
            UNROLL
            for (int s = 0; s < kSets; s++) {
                // A key that is not seen has weight 0 without being computed: where none is, the difference is 0, and
                // exp2 of it 1.
                const bool seen = first + s * kBeside + beside < min(end, limit[r]);
                scores[r][s] = seen ? fast::exp2(scores[r][s] - top) : 0.0f;
                sum[r] += scores[r][s];
            }
            UNROLL
            for (int i = 0; i < kOwn; i++) {
                mixed[r][i] *= kept;
            }
        }
        UNROLL
        for (int s = 0; s < kSets; s++) {
            UNROLL
            for (int i = 0; i < kOwn; i += kVector) {
                const ulong at = places[s] + (i / kVector * kAcross + across) * kVector;
                float elements[kVector];
                if constexpr (kVector == 4) {
                    const float4 four = Pool<S>::four(values, value_scales, value_biases, at);
                    UNROLL
                    for (int e = 0; e < kVector; e++) {
                        elements[e] = four[e];
                    }
                } else {
                    const float2 two = Pool<S>::two(values, value_scales, value_biases, at);
                    elements[0] = two.x, elements[1] = two.y;
                }
                UNROLL
                for (int r = 0; r < ROWS; r++) {
                    UNROLL
                    for (int e = 0; e < kVector; e++) {
                        mixed[r][i + e] = fma(scores[r][s], elements[e], mixed[r][i + e]);
                    }
                }
            }
        }
    }

    // Lanes with different keys are added up, then simdgroups.
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        const float top = simd_max(largest[r]);
        const float kept = fast::exp2(largest[r] - top);
        sum[r] *= kept;
        for (int apart = kAcross; apart < kLanes; apart *= 2) {
            sum[r] += simd_shuffle_xor(sum[r], ushort(apart));
        }
        UNROLL
        for (int i = 0; i < kOwn; i++) {
            float own = mixed[r][i] * kept;
            for (int apart = kAcross; apart < kLanes; apart *= 2) {
                own += simd_shuffle_xor(own, ushort(apart));
            }
            if (beside == 0) {
                const int at = (i / kVector * kAcross + across) * kVector + i % kVector;
                mixed_room[(int(simd) * ROWS + r) * D + at] = own;
            }
        }
        if (lane == 0) {
            largest_room[int(simd) * ROWS + r] = top;
            sum_room[int(simd) * ROWS + r] = sum[r];
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = int(thread_index); i < ROWS * D; i += kSimdgroups * kLanes) {
        const int r = i / D, at = i % D;
        float top = kLowest, all = 0, value = 0;
        for (int s = 0; s < kSimdgroups; s++) {
            top = max(top, largest_room[s * ROWS + r]);
        }
        for (int s = 0; s < kSimdgroups; s++) {
            const float weight = fast::exp2(largest_room[s * ROWS + r] - top);
            all = fma(weight, sum_room[s * ROWS + r], all);
            value = fma(weight, mixed_room[(s * ROWS + r) * D + at], value);
        }
        if (kParts) {
            const ulong place = ((ulong(group.x) * groups.y + group.y) * ROWS + r) * groups.z + group.z;
            ((device float*)out)[place * D + at] = value;
            if (at == 0) {
                parts[place] = float2(top, all);
            }
        } else if (first_row + r < rows.count) {
            out[rows.place(first_row + r) * D + at] = T(all > 0 ? value / all : 0.0f);
        }
    }
}

#define DECODE(NAME, KEPT, T, S, D)                                                          \
    KERNEL(attention_decode_##NAME##_##KEPT##_d##D##_r1, attention_decode<T, S, D, 1>)       \
    KERNEL(attention_decode_##NAME##_##KEPT##_d##D##_r2, attention_decode<T, S, D, 2>)       \
    KERNEL(attention_decode_##NAME##_##KEPT##_d##D##_r4, attention_decode<T, S, D, 4>)
#define DECODES(NAME, T)             \
    DECODE(NAME, float, T, T, 64)    \
    DECODE(NAME, float, T, T, 80)    \
    DECODE(NAME, float, T, T, 96)    \
    DECODE(NAME, float, T, T, 128)   \
    DECODE(NAME, int8, T, Int8, 64)  \
    DECODE(NAME, int8, T, Int8, 96)  \
    DECODE(NAME, int8, T, Int8, 128) \
    DECODE(NAME, int4, T, Int4, 64)  \
    DECODE(NAME, int4, T, Int4, 96)  \
    DECODE(NAME, int4, T, Int4, 128)
FOR_TYPES(DECODES)
