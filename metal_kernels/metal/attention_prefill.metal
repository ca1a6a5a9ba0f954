// FlashAttention-2 (Dao 2023) over paged keys and values, for sequences with many rows. Bound by arithmetic.
//
// A threadgroup of four simdgroups has 32 rows (tokens and the heads that share a key head), eight to a simdgroup,
// which keeps its queries and its sums in registers: rows never cross a simdgroup, and a softmax needs no barrier. A
// tile of keys and values is brought into threadgroup memory for all four, dequantized on the way if it is kept as
// integers. Tiles beyond the last key that any row sees are not read, and simdgroups whose rows see none of a tile pass
// it over.
#include "attention.h"

constant constexpr int kRows = 32;
constant constexpr int kThreads = 128;

template <typename T, typename S, int D>
[[kernel, max_total_threads_per_threadgroup(128)]] void attention_prefill(
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
    device T* out [[buffer(11)]],
    constant AttentionParams& p [[buffer(12)]],
    uint2 group [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint simd [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
    constexpr int kKeys = sizeof(T) == 4 ? 16 : 32;  // two tiles of 17 KB at most, for D = 128
    constexpr int kStride = padded<T>(D);
    constexpr int kWide = D / 8, kScores = kKeys / 8;  // fragments across a head, and across a tile's keys
    threadgroup vec<T, 4> room[2 * kKeys * kStride / 4];
    threadgroup T* key_tile = (threadgroup T*)room;
    threadgroup T* value_tile = key_tile + kKeys * kStride;

    const int sequence = tiles[group.x].x, first_row = tiles[group.x].y;
    const Rows rows = rows_of(sequence, int(group.y), query_starts, context_lens, p);
    device const int* table = tables + ulong(sequence) * p.table_width;
    const int thread_id = int(thread_index);

    // Queries go by way of the tiles' room, which is large enough, into fragments.
    for (int i = thread_id; i < kRows * (D / 4); i += kThreads) {
        const int row = first_row + i / (D / 4), at = i % (D / 4) * 4;
        const float4 four = row < rows.count ? load4(q + rows.query(row, D) + at) : float4(0.0f);
        stage4(key_tile + i / (D / 4) * kStride + at, four);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);  // all queries are there
    simdgroup_matrix<T, 8, 8> queries[kWide];
    UNROLL
    for (int c = 0; c < kWide; c++) {
        simdgroup_load(queries[c], key_tile + int(simd) * 8 * kStride + 8 * c, kStride);
    }

    const int simd_row = first_row + int(simd) * 8;
    const int row = simd_row + fragment_row(lane);
    const int limit = rows.limit(row), simd_limit = rows.limit(simd_row + 7);
    const int last = rows.limit(first_row + kRows - 1);
    const float scale = p.scale * M_LOG2E_F;
    float largest = kLowest, sum = 0;
    simdgroup_matrix<float, 8, 8> mixed[kWide];
    UNROLL
    for (int c = 0; c < kWide; c++) {
        mixed[c] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }

    for (int first_key = 0; first_key < last; first_key += kKeys) {
        threadgroup_barrier(mem_flags::mem_threadgroup);  // the tiles, or the queries in their place, have been read
        for (int i = thread_id; i < kKeys * (D / 4); i += kThreads) {
            const int own = i / (D / 4), at = i % (D / 4) * 4;
            float4 key = float4(0.0f), value = float4(0.0f);  // a masked value is multiplied by 0: it must be finite
            if (first_key + own < last) {
                const ulong place = key_place<D>(table, first_key + own, rows.kv_head, p) + at;
                key = Pool<S>::four(keys, key_scales, key_biases, place);
                value = Pool<S>::four(values, value_scales, value_biases, place);
            }
            stage4(key_tile + own * kStride + at, key);
            stage4(value_tile + own * kStride + at, value);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);  // the tiles are complete
        if (first_key >= simd_limit) {
            continue;
        }

        // Of the keys from this lane's first on, how many its row sees. What it does not see has weight 0 without being
        // computed: a fast function of an infinity may be anything.
        const int seen = limit - first_key - fragment_column(lane);
        simdgroup_matrix<float, 8, 8> scores[kScores];
        float top = largest;
        UNROLL
        for (int j = 0; j < kScores; j++) {
            scores[j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
            UNROLL
            for (int c = 0; c < kWide; c++) {
                simdgroup_matrix<T, 8, 8> key;
                simdgroup_load(key, key_tile + 8 * j * kStride + 8 * c, kStride, ulong2(0), true);
                simdgroup_multiply_accumulate(scores[j], queries[c], key, scores[j]);
            }
            UNROLL
            for (int e = 0; e < 2; e++) {
                const float score = 8 * j + e < seen ? scores[j].thread_elements()[e] * scale : kLowest;
                scores[j].thread_elements()[e] = score;
                top = max(top, score);
            }
        }
        top = row_max(top);
        const float kept = fast::exp2(largest - top);
        largest = top;
        sum *= kept;  // of this lane's own columns, until the end
        simdgroup_matrix<T, 8, 8> weights[kScores];
        UNROLL
        for (int j = 0; j < kScores; j++) {
            UNROLL
            for (int e = 0; e < 2; e++) {
                const float weight = 8 * j + e < seen ? fast::exp2(scores[j].thread_elements()[e] - top) : 0.0f;
                weights[j].thread_elements()[e] = T(weight);
                sum += weight;
            }
        }
        UNROLL
        for (int c = 0; c < kWide; c++) {
            mixed[c].thread_elements()[0] *= kept;
            mixed[c].thread_elements()[1] *= kept;
            UNROLL
            for (int j = 0; j < kScores; j++) {
                simdgroup_matrix<T, 8, 8> value;
                simdgroup_load(value, value_tile + 8 * j * kStride + 8 * c, kStride);
                simdgroup_multiply_accumulate(mixed[c], weights[j], value, mixed[c]);
            }
        }
    }

    sum = row_sum(sum);
    const float share = sum > 0 ? 1 / sum : 0;  // a row that sees nothing is zero
    if (row < rows.count) {
        device T* to = out + rows.place(row) * D + fragment_column(lane);
        UNROLL
        for (int c = 0; c < kWide; c++) {
            to[8 * c] = T(mixed[c].thread_elements()[0] * share);
            to[8 * c + 1] = T(mixed[c].thread_elements()[1] * share);
        }
    }
}

#define PREFILL(NAME, KEPT, T, S, D) KERNEL(attention_prefill_##NAME##_##KEPT##_d##D, attention_prefill<T, S, D>)
#define PREFILLS(NAME, T)                                                          \
    PREFILL(NAME, float, T, T, 64)                                                 \
    PREFILL(NAME, float, T, T, 80)                                                 \
    PREFILL(NAME, float, T, T, 96)                                                 \
    PREFILL(NAME, float, T, T, 128)                                                \
    PREFILL(NAME, int8, T, Int8, 64)                                               \
    PREFILL(NAME, int8, T, Int8, 96)                                               \
    PREFILL(NAME, int8, T, Int8, 128)                                              \
    PREFILL(NAME, int4, T, Int4, 64)                                               \
    PREFILL(NAME, int4, T, Int4, 96)                                               \
    PREFILL(NAME, int4, T, Int4, 128)
FOR_TYPES(PREFILLS)
