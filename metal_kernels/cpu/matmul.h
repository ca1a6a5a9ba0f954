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

// That, or one that rounds the activations first.
using Multiply = void (*)(const PackedMatrix& matrix, const Activations& activations);

// The same with x [rows, columns] in float32, whatever `activations` holds.
void matmul_floats(const PackedMatrix& matrix, const float* x, const Activations& activations);

// What a kernel gets: x in float32, and for quantized matrices the sum of x over each group of columns, [rows, groups].
struct MatmulTask {
    const PackedMatrix& matrix;
    const float* x;
    const float* group_sums;  // few_rows alone needs them
    void* y;
    Float type;
    int64_t rows;
};

// The kernels of one instruction set for one kind of task, which names its matrix and its number of rows. Each computes
// all rows of a range of tiles.
template <class Task>
struct TileKernels {
    // Takes weights straight into registers: for few rows, where reading the matrix is the cost.
    void (*few_rows)(const Task& task, int64_t first_tile, int64_t end_tile);
    // Writes weights into a panel first, in the form in which they are multiplied, and many rows then share it. Both
    // panel and sums begin at a cache line; `sums` has room for rows * panel_tiles tiles.
    void (*many_rows)(const Task& task, int64_t first_tile, int64_t end_tile, void* panel, float* sums);
    int panel_tiles;
    // From this number of rows on, many_rows is faster. No smaller than 1.
    int many;
};

using MatmulKernels = TileKernels<MatmulTask>;

// Columns of a panel of floats: with up to 32 rows it stays in the second level cache.
inline constexpr int64_t kPanelColumns = 1024;

extern const MatmulKernels kPortableMatmul;
extern const MatmulKernels kAvx2Matmul;
extern const MatmulKernels kAvx512Matmul;
extern const MatmulKernels kNeonMatmul;

}  // namespace glasschat::cpu
