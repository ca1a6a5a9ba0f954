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
// All are [rows, columns] or [rows, groups].
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

// The kernels of one instruction set. Panels are of bytes.
struct Int8Kernels {
    // Rounds `groups` groups of `size` floats each.
    void (*quantize)(const float* x, int64_t groups, int size, int8_t* elements, float* scales, float* sums);
    TileKernels<Int8Task> tiles;
};

// Groups of columns in a panel: about 512 columns, so that two tiles of bytes stay in the first level cache.
inline int64_t panel_groups(int group_size) {
    return group_size < 512 ? 512 / group_size : 1;
}

extern const Int8Kernels kPortableInt8;
extern const Int8Kernels kAvx2Int8;
extern const Int8Kernels kAvx512Int8;
extern const Int8Kernels kAvx512VnniInt8;
extern const Int8Kernels kNeonInt8;
extern const Int8Kernels kDotprodInt8;
extern const Int8Kernels kI8mmInt8;

}  // namespace glasschat::cpu
