#include "cpu/matmul.h"

#include <algorithm>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/matmul_work.h"
#include "cpu/pool.h"

namespace glasschat::cpu {

namespace {

const MatmulKernels& kernels() {
    return GLASSCHAT_IN_FORCE(Matmul);
}

const float* sums_of_groups(const PackedMatrix& matrix, const float* x, int64_t rows) {
    if (!matrix.quantized()) {
        return nullptr;
    }
    static thread_local std::vector<float> kept;
    float* sums = scratch(kept, rows * matrix.groups());
    const int size = matrix.group_size();
    for (int64_t group = 0; group < rows * matrix.groups(); group++) {
        // Eight sums side by side, which the compiler turns into vectors without reordering any one sum.
        float parts[8] = {};
        for (int i = 0; i < size; i += 8) {
            for (int part = 0; part < 8; part++) {
                parts[part] += x[group * size + i + part];
            }
        }
        sums[group] = ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
    }
    return sums;
}

}  // namespace

void matmul(const PackedMatrix& matrix, const Activations& activations) {
    const MatmulKernels& kernel = kernels();
    const int64_t rows = activations.rows, tiles = matrix.tiles();
    const float* x = as_floats(activations, rows * matrix.columns());
    if (rows < kernel.many) {
        const float* sums = sums_of_groups(matrix, x, rows);
        const MatmulTask task{matrix, x, sums, activations.y, activations.type, rows};
        const int64_t step = tiles_per_chunk(matrix, rows, 1);
        parallel_for((tiles + step - 1) / step, [&](int64_t chunk) {
            kernel.few_rows(task, chunk * step, std::min(tiles, (chunk + 1) * step));
        });
        return;
    }
    const MatmulTask task{matrix, x, nullptr, activations.y, activations.type, rows};
    const int64_t step = tiles_per_chunk(matrix, rows, kernel.panel_tiles);
    parallel_for((tiles + step - 1) / step, [&](int64_t chunk) {
        static thread_local std::vector<float> panel, sums;
        const int64_t width = kernel.panel_tiles * kTileRows;
        float* panel_start = scratch(panel, kPanelColumns * width);
        kernel.many_rows(task, chunk * step, std::min(tiles, (chunk + 1) * step), panel_start,
                         scratch(sums, rows * width));
    });
}

}  // namespace glasschat::cpu
