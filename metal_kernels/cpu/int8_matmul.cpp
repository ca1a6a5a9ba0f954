#include "cpu/int8_matmul.h"

#include <stdexcept>

#include "cpu/dispatch.h"
#include "cpu/matmul_work.h"
#include "cpu/share_rows.h"
#include "cpu/tiles.h"

namespace glasschat::cpu {

namespace {

Int8Rows rounded(const Int8Kernels& kernels, const PackedMatrix& matrix, const float* x, int64_t rows) {
    static thread_local Scratch<int8_t> elements;
    static thread_local Scratch<float> scales, sums;
    const int64_t columns = matrix.columns(), groups = matrix.groups();
    int8_t* to = scratch(elements, whole_tiles(rows) * columns);
    float *to_scales = scratch(scales, rows * groups), *to_sums = scratch(sums, rows * groups);
    share_rows(rows, columns, [&](int64_t first, int64_t end) {
        kernels.quantize(x + first * columns, (end - first) * groups, matrix.group_size(), to + first * columns,
                         to_scales + first * groups, to_sums + first * groups);
    });
    return {to, to_scales, to_sums};
}

}  // namespace

void int8_matmul(const PackedMatrix& matrix, const Activations& activations) {
    int8_matmul_by(GLASSCHAT_DOTS_IN_FORCE(Int8), matrix, activations);
}

void int8_matmul_by(const Int8Kernels& kernels, const PackedMatrix& matrix, const Activations& activations) {
    if (!matrix.quantized()) {
        throw std::invalid_argument("activations are rounded to int8 for quantized matrices alone");
    }
    const int64_t rows = activations.rows;
    const float* x = as_floats(activations, rows * matrix.columns());
    const Int8Task task{matrix, rounded(kernels, matrix, x, rows), activations.y, activations.type, rows};
    multiply_tiles(kernels.tiles, task, kBytePanelColumns * kTileRows);
}

}  // namespace glasschat::cpu
