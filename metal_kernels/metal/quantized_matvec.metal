// A few rows (decode: 1 to 8) times a quantized matrix. Bound by reading the matrix from memory, once for up to 8 rows.
//
// A simdgroup computes 4 outputs; its lanes walk along the columns, 8 neighbouring bytes of each of the 4 matrix rows
// at a time, so that a simdgroup reads 256 neighbouring bytes and has 4 loads in flight (the walk of MLX's qmv, which
// takes one row of x; several are served here by the integers unpacked for one). The group's bias is factored out: sum
// (q * scale + bias) * x = scale * sum (q * x) + bias * sum x.
//
// With kGather, row r takes row sources[r] of x and matrix experts[r], and there is one row to a threadgroup.
#include "quantized.h"

constant constexpr int kOutputs = 4;     // of a simdgroup
constant constexpr int kSimdgroups = 2;  // of a threadgroup

template <typename T, int BITS, int ROWS>
[[kernel, max_total_threads_per_threadgroup(64)]] void quantized_matvec(
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
    uint simd [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
    constexpr int kPerWord = 32 / BITS;
    constexpr int kWords = ROWS <= 2 ? 2 : 1;  // of a lane at a time; with more rows, the integers of two are too many
    constexpr int kColumns = kWords * kPerWord;
    constexpr bool kUnshifted = BITS == 4 && ROWS <= 2;

    const int first_output = int(group.x * kSimdgroups + simd) * kOutputs;
    if (first_output >= p.outputs) {
        return;  // all of the simdgroup, and there are no barriers
    }
    const int first_row = int(group.y) * ROWS;
    const int begin = int(group.z) * p.split_inputs;
    const int end = min(p.inputs, begin + p.split_inputs);
    const int row_words = p.inputs / kPerWord, row_groups = p.inputs / kGroup;

    const ulong matrix = kGather ? ulong(experts[first_row]) * p.outputs : 0;
    device const uint* row_of_words[kOutputs];
    ulong row_of_groups[kOutputs];
    UNROLL
    for (int o = 0; o < kOutputs; o++) {
        const ulong row = matrix + min(first_output + o, p.outputs - 1);
        row_of_words[o] = words + row * row_words;
        row_of_groups[o] = row * row_groups;
    }
    device const T* row_of_x[ROWS];
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        const int row = min(first_row + r, p.rows - 1);
        row_of_x[r] = x + ulong(kGather ? int(sources[row]) : row) * p.inputs;
    }

    float sums[ROWS][kOutputs] = {};
    for (int column = begin + int(lane) * kColumns; column < end; column += kLanes * kColumns) {
        float q[kOutputs][kColumns], scale[kOutputs], shift[kOutputs];
        UNROLL
        for (int o = 0; o < kOutputs; o++) {
            uint read[kWords];
            load_words<kWords>(row_of_words[o] + column / kPerWord, read);
            UNROLL
            for (int i = 0; i < kWords; i++) {
                if (kUnshifted) {
                    unpack_unshifted(read[i], q[o] + i * kPerWord);
                } else {
                    unpack<BITS>(read[i], q[o] + i * kPerWord);
                }
            }
            const ulong place = row_of_groups[o] + column / kGroup;
            scale[o] = float(scales[place]), shift[o] = float(biases[place]);
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            float part[kColumns], sum = 0;
            UNROLL
            for (int i = 0; i < kColumns; i += 4) {
                const float4 four = load4(row_of_x[r] + column + i);
                sum += (four.x + four.y) + (four.z + four.w);
                UNROLL
                for (int j = 0; j < 4; j++) {
                    part[i + j] = kUnshifted ? four[j] * (1.0f / float(1u << (4 * ((i + j) % 8)))) : four[j];
                }
            }
            UNROLL
            for (int o = 0; o < kOutputs; o++) {
                float product = 0;
                UNROLL
                for (int i = 0; i < kColumns; i++) {
                    product = fma(q[o][i], part[i], product);
                }
                sums[r][o] += scale[o] * product + shift[o] * sum;
            }
        }
    }

    // Lane r * 4 + o keeps one of the sums, so that all are stored at once.
    float mine = 0;
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int o = 0; o < kOutputs; o++) {
            const float sum = simd_sum(sums[r][o]);
            mine = int(lane) == r * kOutputs + o ? sum : mine;
        }
    }
    const int row = first_row + int(lane) / kOutputs, output = first_output + int(lane) % kOutputs;
    if (int(lane) < ROWS * kOutputs && row < p.rows && output < p.outputs) {
        put(y, bias, p, group.z, row, output, mine);
    }
}

#define MATVEC(NAME, T, BITS)                                                       \
    KERNEL(quantized_matvec_##NAME##_b##BITS##_r1, quantized_matvec<T, BITS, 1>)    \
    KERNEL(quantized_matvec_##NAME##_b##BITS##_r2, quantized_matvec<T, BITS, 2>)    \
    KERNEL(quantized_matvec_##NAME##_b##BITS##_r4, quantized_matvec<T, BITS, 4>)    \
    KERNEL(quantized_matvec_##NAME##_b##BITS##_r8, quantized_matvec<T, BITS, 8>)
#define MATVECS(NAME, T) MATVEC(NAME, T, 4) MATVEC(NAME, T, 8)
FOR_TYPES(MATVECS)
