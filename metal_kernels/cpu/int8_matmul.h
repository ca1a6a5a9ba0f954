// Activations rounded to int8 times a packed quantized matrix: a quarter of the multiplications' cost, for a small error.
//
// Each group of columns of each row of x has a scale of its own, so that the largest magnitude in it becomes 127 (dynamic
// quantization as in llama.cpp's Q8_0 activations). The products of bytes are summed exactly, in int32.
#pragma once

#include <cstdint>

#include "cpu/matmul.h"

namespace glasschat::cpu {

// y = x * matrix + bias like `matmul`, with x rounded. Throws std::invalid_argument if the matrix is not quantized.
void int8_matmul(const PackedMatrix& matrix, const Activations& activations);

// Activations in int8: x[row][column] is `elements * scales` of its group; `sums` are those of each group of x so rounded.
// All are [rows, columns] or [rows, groups]. Elements go on, whatever they are, to a multiple of 16 rows.
struct Int8Rows {
    const int8_t* elements;
    const float* scales;
    const float* sums;
};

struct Int8Task {
    const PackedMatrix& matrix;
    Int8Rows x;
    void* y;
    Float type;
    int64_t rows;
};

// The kernels of one instruction set.
struct Int8Kernels {
    // Rounds `groups` groups of `size` floats each.
    void (*quantize)(const float* x, int64_t groups, int size, int8_t* elements, float* scales, float* sums);
    // Without tile registers weights go straight into registers however many rows there are: taking four bits apart once
    // for eight rows costs less than keeping bytes for all rows, which have to be read twice as often.
    TileKernels<Int8Task> tiles;
};

// The same by kernels that are not those in force.
void int8_matmul_by(const Int8Kernels& kernels, const PackedMatrix& matrix, const Activations& activations);

// Columns of a panel of bytes at most, for the kernels that unpack them: two tiles of it stay in the first level cache.
inline constexpr int64_t kBytePanelColumns = 512;

extern const Int8Kernels kPortableInt8;
extern const Int8Kernels kAvx2Int8;
extern const Int8Kernels kAvx512Int8;
extern const Int8Kernels kAvx512VnniInt8;
extern const Int8Kernels kAmxInt8;
extern const Int8Kernels kNeonInt8;
extern const Int8Kernels kDotprodInt8;
extern const Int8Kernels kI8mmInt8;

}  // namespace glasschat::cpu
