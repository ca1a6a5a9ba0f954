// What attention over the paged KV cache reads, for chunks of prompts and for decodes alike.
//
// The pool of keys, or of values, is [N, P, H, D]; a sequence's blocks are listed in its row of `tables` [B, W]. A
// sequence has query_starts[b + 1] - query_starts[b] query tokens, which are the last of its context_lens[b] tokens.
// The query heads that share a key head are stood together as rows, token after token: row r of a sequence is its token
// r / share, head r % share (the packing of grouped heads of FlashAttention-2 and FlashInfer), so that keys and values
// are read once for all of them. A tile is a sequence and the first of its rows that a threadgroup computes.
#pragma once

#include "common.h"

constant int kBlock [[function_constant(0)]];   // P
constant bool kParts [[function_constant(1)]];  // each threadgroup has a part of the context, and leaves it unmerged

// How a pool keeps its elements: as floats of a type, or as integers in groups of 32 with a scale and a bias in
// float16.
struct Int8 {};
struct Int4 {};

template <typename S>
struct Pool {
    typedef S Unit;
    static inline float4 four(device const S* units, device const half*, device const half*, ulong at) {
        return load4(units + at);
    }
    static inline float2 two(device const S* units, device const half*, device const half*, ulong at) {
        return float2(*(device const vec<S, 2>*)(units + at));
    }
};

template <>
struct Pool<Int8> {
    typedef uint Unit;
    static inline float4 four(
        device const uint* units, device const half* scales, device const half* biases, ulong at) {
        const uchar4 q = as_type<uchar4>(units[at / 4]);
        const float4 wide = float4(float(q.x), float(q.y), float(q.z), float(q.w));
        return fma(wide, float4(float(scales[at / 32])), float4(float(biases[at / 32])));
    }
};

template <>
struct Pool<Int4> {
    typedef ushort Unit;
    static inline float4 four(
        device const ushort* units, device const half* scales, device const half* biases, ulong at) {
        const uint q = units[at / 4];
        const float4 wide = float4(float(q & 15u), float((q >> 4) & 15u), float((q >> 8) & 15u), float(q >> 12));
        return fma(wide, float4(float(scales[at / 32])), float4(float(biases[at / 32])));
    }
};

// The rows of one sequence and one key head.
struct Rows {
    int start;    // the sequence's first token in the flattened batch
    int count;    // query tokens times `share`
    int before;   // tokens of the context before the first query
    int share;
    int kv_head;
    int heads;
    int query_stride;

    // The place of a row in [T, H_q], and so in the output.
    ulong place(int row) const {
        return ulong(start + row / share) * ulong(heads) + ulong(kv_head * share + row % share);
    }

    // The first of its query's `size` elements.
    ulong query(int row, int size) const {
        return ulong(start + row / share) * ulong(query_stride) + ulong((kv_head * share + row % share) * size);
    }

    // The keys that a row sees. Rows past the last see what the last does.
    int limit(int row) const { return before + min(row, count - 1) / share + 1; }
};

inline Rows rows_of(
    int sequence,
    int kv_head,
    device const int* query_starts,
    device const int* context_lens,
    constant AttentionParams& p) {
    Rows rows;
    rows.start = query_starts[sequence];
    const int queries = query_starts[sequence + 1] - rows.start;
    rows.share = p.heads / p.kv_heads;
    rows.count = queries * rows.share;
    rows.before = context_lens[sequence] - queries;
    rows.kv_head = kv_head;
    rows.heads = p.heads;
    rows.query_stride = p.query_stride;
    return rows;
}

// The first element of a head of a token in the pool.
template <int D>
inline ulong key_place(device const int* table, int key, int kv_head, constant AttentionParams& p) {
    const ulong slot = ulong(table[key / kBlock]) * kBlock + key % kBlock;
    return (slot * p.kv_heads + kv_head) * D;
}
