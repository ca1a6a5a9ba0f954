// Activations times a packed matrix: y[m][n] = sum over k of x[m][k] * w[n][k], plus the layer's bias.
#pragma once

#include <cstdint>

#include "cpu/numbers.h"
#include "cpu/packing.h"

namespace glasschat::cpu {

// Rows of activations in the caller's type, one after another without gaps: x [rows, columns], y [rows, matrix rows].
struct Activations {
    const void* x;
    void* y;
    Float type;
    int64_t rows;
};

// Products and sums are in float32 whatever the types, and the result is rounded once. Uses the thread pool.
void matmul(const PackedMatrix& matrix, const Activations& activations);

// What a kernel gets: x in float32, and for quantized matrices the sum of x over each group of columns, [rows, groups].
struct MatmulTask {
    const PackedMatrix& matrix;
    const float* x;
    const float* group_sums;
    void* y;
    Float type;
    int64_t rows;
};

// The kernels of one instruction set. Each computes all rows of a range of tiles.
struct MatmulKernels {
    // Takes weights straight into registers: for few rows, where reading the matrix is the cost.
    void (*few_rows)(const MatmulTask& task, int64_t first_tile, int64_t end_tile);
    // Writes weights as floats into a panel first, which many rows then share. `panel` has room for
    // kPanelColumns * panel_tiles tiles of floats, and `sums` for rows * panel_tiles tiles.
    void (*many_rows)(const MatmulTask& task, int64_t first_tile, int64_t end_tile, float* panel, float* sums);
    int panel_tiles;
    // From this number of rows on, many_rows is faster.
    int many;
};

// Columns of a panel: with up to 32 rows of floats it stays in the second level cache.
inline constexpr int64_t kPanelColumns = 1024;

extern const MatmulKernels kPortableMatmul;
extern const MatmulKernels kAvx2Matmul;
extern const MatmulKernels kAvx512Matmul;
extern const MatmulKernels kNeonMatmul;

}  // namespace glasschat::cpu
