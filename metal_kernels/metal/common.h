// What every kernel builds on: vectors of four, and how a simdgroup holds an 8 x 8 matrix.
#pragma once

#include <metal_simdgroup>
#include <metal_simdgroup_matrix>
#include <metal_stdlib>

#include "params.h"

using namespace metal;

// The types of activations that a file's kernels are made for, with their names. All of them, unless the host, which
// needs one and would wait for the others to be compiled, has set this before.
#ifndef FOR_TYPES
#define FOR_TYPES(KERNELS) KERNELS(f32, float) KERNELS(f16, half) KERNELS(bf16, bfloat)
#endif

// Before a loop over an array that has to stay in registers, which have no numbers at run time. The host sets it to the
// compiler's pragma; elsewhere it says what must hold, and costs no time to compile.
#ifndef UNROLL
#define UNROLL
#endif

// A kernel from a template, and the name that the host asks for it by.
#define KERNEL(NAME, ...) template [[host_name(#NAME)]] [[kernel]] decltype(__VA_ARGS__) __VA_ARGS__;

constant constexpr int kLanes = 32;

// The start of a running maximum. Finite: the difference of two of them is 0, and never a NaN.
constant constexpr float kLowest = -3.0e38f;

// Four neighbours at once, 8 or 16 bytes: `from` is a multiple of four numbers into its array.
template <typename T>
inline float4 load4(device const T* from) {
    return float4(*(device const vec<T, 4>*)from);
}

template <typename T>
inline void store4(device T* to, float4 v) {
    *(device vec<T, 4>*)to = vec<T, 4>{T(v.x), T(v.y), T(v.z), T(v.w)};
}

// The same into threadgroup memory.
template <typename T>
inline void stage4(threadgroup T* to, float4 v) {
    *(threadgroup vec<T, 4>*)to = vec<T, 4>{T(v.x), T(v.y), T(v.z), T(v.w)};
}

// Where a lane's two elements of an 8 x 8 matrix stand: (row, column) and (row, column + 1). The language does not say
// so, but it holds on every Apple GPU so far, and MLX's own kernels rely on it.
inline int fragment_row(uint lane) {
    return int((lane / 4 & 4) + lane / 2 % 4);
}

inline int fragment_column(uint lane) {
    return int((lane / 4 & 2) * 2 + lane % 2 * 2);
}

// Over the four lanes that hold one row of an 8 x 8 matrix: they differ in bits 0 and 3 of their number.
inline float row_max(float x) {
    x = max(x, simd_shuffle_xor(x, ushort(1)));
    return max(x, simd_shuffle_xor(x, ushort(8)));
}

inline float row_sum(float x) {
    x += simd_shuffle_xor(x, ushort(1));
    return x + simd_shuffle_xor(x, ushort(8));
}

// Threadgroup memory is laid out in rows of `columns` and 16 bytes more, so that the eight rows of a fragment start in
// different banks.
template <typename T>
constexpr int padded(int columns) {
    return columns + 16 / int(sizeof(T));
}
