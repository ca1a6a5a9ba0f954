#include "cpu/matmul.h"

#include <algorithm>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/pool.h"

namespace glasschat::cpu {

namespace {

const MatmulKernels& kernels() {
    return GLASSCHAT_IN_FORCE(Matmul);
}

// Work below which waking other threads costs more than they bring, in multiplications.
constexpr int64_t kWorthSharing = 1 << 16;
// More chunks than threads, so that a thread that was held up leaves its share to the others.
constexpr int64_t kChunksPerThread = 4;

int64_t tiles_per_chunk(const PackedMatrix& matrix, int64_t rows, int64_t step) {
    const int64_t tiles = matrix.tiles();
    if (tiles * kTileRows * matrix.columns() * rows < kWorthSharing) {
        return tiles;
    }
    const int64_t chunks = int64_t{threads()} * kChunksPerThread;
    return (std::max<int64_t>(1, tiles / chunks) + step - 1) / step * step;
}

const float* as_floats(const Activations& activations, int64_t size) {
    if (activations.type == Float::f32) {
        return static_cast<const float*>(activations.x);
    }
    static thread_local std::vector<float> kept;
    float* floats = scratch(kept, size);
    const auto* halves = static_cast<const uint16_t*>(activations.x);
    if (activations.type == Float::bf16) {
        std::transform(halves, halves + size, floats, numbers::from_bf16);
    } else {
        std::transform(halves, halves + size, floats, numbers::from_f16);
    }
    return floats;
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
