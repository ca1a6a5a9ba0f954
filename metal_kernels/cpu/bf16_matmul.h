// Activations rounded to bfloat16 times a packed matrix: twice the multiplications a second where the processor has an
// instruction for pairs of bfloat16, for the error of a model that computes in bfloat16.
//
// Quantized elements stay integers, which bfloat16 holds exactly, and dense ones are bfloat16 already; sums are float32.
#pragma once

#include <cstdint>

#include "cpu/matmul.h"

namespace glasschat::cpu {

// y = x * matrix + bias like `matmul`, with x rounded. Where there is no such instruction, or for dense matrices of
// another type, the rounded numbers are multiplied as floats.
void bf16_matmul(const PackedMatrix& matrix, const Activations& activations);

// Activations in bfloat16, in pairs as the kernels multiply them: [rows, stride] elements, where what fills up a row is
// zero; they go on, whatever they are, to a multiple of 16 rows. `sums` are those of each group of columns, [rows, groups].
struct Bf16Rows {
    const uint16_t* elements;
    const float* sums;
    int64_t stride;
};

struct Bf16Task {
    const PackedMatrix& matrix;
    Bf16Rows x;
    void* y;
    Float type;
    int64_t rows;
};

// The kernels of one instruction set. Panels are of pairs of bfloat16.
struct Bf16Kernels {
    // Rounds one row of x, orders it for the matrix and fills it up to `stride`; `sums` gets a number for each group.
    void (*round)(const PackedMatrix& matrix, const float* x, int64_t stride, uint16_t* elements, float* sums);
    int step;  // strides are multiples of it
    TileKernels<Bf16Task> tiles;
};

// The same by kernels that are not those in force.
void bf16_matmul_by(const Bf16Kernels& kernels, const PackedMatrix& matrix, const Activations& activations);

// Columns of a panel at most: two tiles of pairs stay in the first level cache.
inline constexpr int64_t kPairPanelColumns = 512;

extern const Bf16Kernels kAvx512Bf16;
extern const Bf16Kernels kAmxBf16;

}  // namespace glasschat::cpu
