// Many rows (prefill) times a quantized matrix, in tiles on the simdgroup's matrix unit. Bound by arithmetic.
//
// A threadgroup of four simdgroups computes ROWS x OUTPUTS numbers, each simdgroup a quarter of them in registers. 32
// columns at a time are brought into threadgroup memory: x as it is, the matrix dequantized once and rounded to T, as
// the reference rounds it. The larger tile does 64 multiplications for each number it reads from there where the
// smaller does 32; the smaller fills more of the GPU when there is little to do (the tiling of MLX's qmm and of
// llama.cpp).
//
// With kGather, row r takes row sources[r] of x and matrix experts[r]. A threadgroup goes through the runs of one expert
// among its rows, which are best as few as can be (after MLX's gather_qmm for sorted indices).
#include "quantized.h"

constant constexpr int kColumns = 32;  // at a time: no group is smaller
constant constexpr int kThreads = 128;

template <typename T, int BITS, int ROWS, int OUTPUTS>
[[kernel, max_total_threads_per_threadgroup(128)]] void quantized_matmul(
    device const T* x [[buffer(0)]],
    device const uint* words [[buffer(1)]],
    device const T* scales [[buffer(2)]],
    device const T* biases [[buffer(3)]],
    device const T* bias [[buffer(4)]],
    device const uint* experts [[buffer(5)]],
    device const uint* sources [[buffer(6)]],
    device T* y [[buffer(7)]],
    constant QuantizedParams& p [[buffer(8)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint simd [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
    constexpr int kStride = padded<T>(kColumns);
    constexpr int kPerWord = 32 / BITS;
    constexpr int kOwn = OUTPUTS * kColumns / kThreads;  // columns of the matrix that a thread dequantizes
    constexpr int kDown = ROWS / 16, kAcross = OUTPUTS / 16;  // fragments of a simdgroup
    threadgroup vec<T, 4> x_room[ROWS * kStride / 4];
    threadgroup vec<T, 4> w_room[OUTPUTS * kStride / 4];
    threadgroup T* x_tile = (threadgroup T*)x_room;
    threadgroup T* w_tile = (threadgroup T*)w_room;

    const int first_output = int(group.x) * OUTPUTS, first_row = int(group.y) * ROWS;
    const int begin = int(group.z) * p.split_inputs;
    const int end = min(p.inputs, begin + p.split_inputs);
    const int tile_rows = min(ROWS, p.rows - first_row);
    const int thread_id = int(thread_index);

    const int own_output = thread_id / (kColumns / kOwn), own_column = thread_id % (kColumns / kOwn) * kOwn;
    const ulong own_row = min(first_output + own_output, p.outputs - 1);
    const int simd_row = int(simd) / 2 * (ROWS / 2), simd_output = int(simd) % 2 * (OUTPUTS / 2);

    for (int run = 0, run_end = tile_rows; run < tile_rows; run = run_end, run_end = tile_rows) {
        ulong matrix_row = own_row;
        if (kGather) {
            const uint expert = experts[first_row + run];
            run_end = run + 1;
            while (run_end < tile_rows && experts[first_row + run_end] == expert) {
                run_end++;
            }
            matrix_row += ulong(expert) * p.outputs;
        }
        device const uint* own_words = words + matrix_row * (p.inputs / kPerWord);
        const ulong own_groups = matrix_row * (p.inputs / kGroup);

        simdgroup_matrix<float, 8, 8> sums[kDown][kAcross];
        UNROLL
        for (int i = 0; i < kDown; i++) {
            UNROLL
            for (int j = 0; j < kAcross; j++) {
                sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
            }
        }
        for (int column = begin; column < end; column += kColumns) {
            threadgroup_barrier(mem_flags::mem_threadgroup);  // the tiles have been read
            for (int i = thread_id; i < ROWS * kColumns / 4; i += kThreads) {
                const int row = i / (kColumns / 4), at = i % (kColumns / 4) * 4;
                float4 four = float4(0.0f);
                if (row >= run && row < run_end) {
                    const int from = kGather ? int(sources[first_row + row]) : first_row + row;
                    four = load4(x + ulong(from) * p.inputs + column + at);
                }
                stage4(x_tile + row * kStride + at, four);
            }
            uint read[kOwn / kPerWord];
            float q[kOwn];
            load_words<kOwn / kPerWord>(own_words + (column + own_column) / kPerWord, read);
            UNROLL
            for (int i = 0; i < kOwn / kPerWord; i++) {
                unpack<BITS>(read[i], q + i * kPerWord);
            }
            const ulong place = own_groups + column / kGroup;
            const float scale = float(scales[place]), shift = float(biases[place]);
            UNROLL
            for (int i = 0; i < kOwn; i += 4) {
                const float4 four = float4(q[i], q[i + 1], q[i + 2], q[i + 3]);
                stage4(w_tile + own_output * kStride + own_column + i, fma(four, float4(scale), float4(shift)));
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);  // the tiles are complete

            for (int k = 0; k < kColumns; k += 8) {
                simdgroup_matrix<T, 8, 8> left[kDown], right[kAcross];
                UNROLL
                for (int i = 0; i < kDown; i++) {
                    simdgroup_load(left[i], x_tile + (simd_row + 8 * i) * kStride + k, kStride);
                }
                UNROLL
                for (int j = 0; j < kAcross; j++) {
                    simdgroup_load(right[j], w_tile + (simd_output + 8 * j) * kStride + k, kStride, ulong2(0), true);
                }
                UNROLL
                for (int i = 0; i < kDown; i++) {
                    UNROLL
                    for (int j = 0; j < kAcross; j++) {
                        simdgroup_multiply_accumulate(sums[i][j], left[i], right[j], sums[i][j]);
                    }
                }
            }
        }

        UNROLL
        for (int i = 0; i < kDown; i++) {
            const int row = simd_row + 8 * i + fragment_row(lane);
            UNROLL
            for (int j = 0; j < kAcross; j++) {
                const int output = first_output + simd_output + 8 * j + fragment_column(lane);
                UNROLL
                for (int e = 0; e < 2; e++) {
                    if (row >= run && row < run_end && output + e < p.outputs) {
                        put(y, bias, p, group.z, first_row + row, output + e, sums[i][j].thread_elements()[e]);
                    }
                }
            }
        }
    }
}

#define MATMUL(NAME, T, BITS)                                                              \
    KERNEL(quantized_matmul_##NAME##_b##BITS##_32x32, quantized_matmul<T, BITS, 32, 32>)   \
    KERNEL(quantized_matmul_##NAME##_b##BITS##_64x64, quantized_matmul<T, BITS, 64, 64>)
#define MATMULS(NAME, T) MATMUL(NAME, T, 4) MATMUL(NAME, T, 8)
FOR_TYPES(MATMULS)
