// MLX's affine quantization: words [O, I * bits / 32], lowest bits first, and a scale and a bias for each group of
// columns, [O, I / group]. An element is q * scale + bias. Groups are 32, 64 or 128 columns, and divide I.
#pragma once

#include "common.h"

constant int kGroup [[function_constant(0)]];    // columns that share a scale
constant bool kBias [[function_constant(1)]];    // the layer's bias [O] is added
constant bool kGather [[function_constant(2)]];  // every row has a matrix of its own: see the kernels
constant bool kSplit [[function_constant(3)]];   // sums of a part of the columns go to floats [splits, rows, O]

// The integers of one word.
template <int BITS>
inline void unpack(uint word, thread float* q);

template <>
inline void unpack<8>(uint word, thread float* q) {
    const uchar4 bytes = as_type<uchar4>(word);
    UNROLL
    for (int i = 0; i < 4; i++) {
        q[i] = float(bytes[i]);
    }
}

template <>
inline void unpack<4>(uint word, thread float* q) {
    UNROLL
    for (int i = 0; i < 8; i++) {
        q[i] = float((word >> (4 * i)) & 15u);
    }
}

// The same left where they are in the word: integer i is 2^(BITS * i) times too large, exactly. A shift is saved for
// each integer if x is made as much smaller beforehand, which pays where few rows share them (an idea of MLX's qmv).
inline void unpack_unshifted(uint word, thread float* q) {
    UNROLL
    for (int i = 0; i < 8; i++) {
        q[i] = float(word & (15u << (4 * i)));
    }
}

// COUNT words that lie together, in one load.
template <int COUNT>
inline void load_words(device const uint* from, thread uint* words);

template <>
inline void load_words<1>(device const uint* from, thread uint* words) {
    words[0] = *from;
}

template <>
inline void load_words<2>(device const uint* from, thread uint* words) {
    const uint2 v = *(device const uint2*)from;
    words[0] = v.x, words[1] = v.y;
}

template <>
inline void load_words<4>(device const uint* from, thread uint* words) {
    const uint4 v = *(device const uint4*)from;
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
}

// Where a result goes: rounded once with the layer's bias, or kept as a partial sum.
template <typename T>
inline void put(
    device T* y, device const T* bias, constant QuantizedParams& p, uint split, int row, int output, float v) {
    if (kSplit) {
        ((device float*)y)[(ulong(split) * p.rows + row) * p.outputs + output] = v;
    } else {
        y[ulong(row) * p.outputs + output] = T(kBias ? v + float(bias[output]) : v);
    }
}
