#include "cpu/bf16_matmul.h"

#include "cpu/features.h"
#include "cpu/matmul_work.h"
#include "cpu/scratch.h"
#include "cpu/share_rows.h"

namespace glasschat::cpu {

namespace {

// Null where there are none.
const Bf16Kernels* kernels() {
#if defined(__x86_64__)
    if (level() >= Level::avx512bf16) {
        return &kAvx512Bf16;
    }
#endif
    return nullptr;
}

bool multiplies(const PackedMatrix& matrix) {
    if (!matrix.quantized()) {
        return matrix.format() == Format::bf16;
    }
    return matrix.group_size() % 32 == 0 && kPairPanelColumns % matrix.group_size() == 0;
}

Bf16Rows rounded(const Bf16Kernels& kernel, const PackedMatrix& matrix, const float* x, int64_t rows) {
    static thread_local Scratch<uint16_t> elements;
    static thread_local Scratch<float> sums;
    const int64_t columns = matrix.columns(), groups = matrix.groups(), stride = (columns + 1) / 2 * 2;
    uint16_t* to = scratch(elements, rows * stride);
    float* to_sums = scratch(sums, rows * groups);
    share_rows(rows, columns, [&](int64_t first, int64_t end) {
        for (int64_t row = first; row < end; row++) {
            kernel.round(matrix, x + row * columns, to + row * stride, to_sums + row * groups);
        }
    });
    return {to, to_sums, stride};
}

const float* rounded_floats(const float* x, int64_t rows, int64_t columns) {
    static thread_local Scratch<float> kept;
    float* to = scratch(kept, rows * columns);
    share_rows(rows, columns, [&](int64_t first, int64_t end) {
        for (int64_t i = first * columns; i < end * columns; i++) {
            to[i] = numbers::from_bf16(numbers::to_bf16(x[i]));
        }
    });
    return to;
}

}  // namespace

void bf16_matmul(const PackedMatrix& matrix, const Activations& activations) {
    const int64_t rows = activations.rows, columns = matrix.columns();
    const float* x = as_floats(activations, rows * columns);
    const Bf16Kernels* kernel = kernels();
    if (!kernel || !multiplies(matrix)) {
        return matmul_floats(matrix, rounded_floats(x, rows, columns), activations);
    }
    const Bf16Task task{matrix, rounded(*kernel, matrix, x, rows), activations.y, activations.type, rows};
    multiply_tiles(kernel->tiles, task, kPairPanelColumns * kTileRows * sizeof(uint16_t));
}

}  // namespace glasschat::cpu
