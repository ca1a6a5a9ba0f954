#include "cpu/bf16_matmul.h"

#include "cpu/features.h"
#include "cpu/matmul_work.h"
#include "cpu/scratch.h"
#include "cpu/share_rows.h"
#include "cpu/tiles.h"

namespace glasschat::cpu {

namespace {

// Null where there are none.
const Bf16Kernels* in_force() {
#if defined(__x86_64__)
    if (level() >= Level::avx512bf16) {
        return level() >= Level::amx ? &kAmxBf16 : &kAvx512Bf16;
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

Bf16Rows rounded(const Bf16Kernels& kernels, const PackedMatrix& matrix, const float* x, int64_t rows) {
    static thread_local Scratch<uint16_t> elements;
    static thread_local Scratch<float> sums;
    const int64_t columns = matrix.columns(), groups = matrix.groups();
    const int64_t stride = (columns + kernels.step - 1) / kernels.step * kernels.step;
    uint16_t* to = scratch(elements, whole_tiles(rows) * stride);
    float* to_sums = scratch(sums, rows * groups);
    share_rows(rows, columns, [&](int64_t first, int64_t end) {
        for (int64_t row = first; row < end; row++) {
            kernels.round(matrix, x + row * columns, stride, to + row * stride, to_sums + row * groups);
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

// With x rounded, as floats.
void multiply_floats(const PackedMatrix& matrix, const Activations& activations) {
    const int64_t rows = activations.rows, columns = matrix.columns();
    const float* x = as_floats(activations, rows * columns);
    matmul_floats(matrix, rounded_floats(x, rows, columns), activations);
}

}  // namespace

void bf16_matmul(const PackedMatrix& matrix, const Activations& activations) {
    if (const Bf16Kernels* kernels = in_force()) {
        return bf16_matmul_by(*kernels, matrix, activations);
    }
    multiply_floats(matrix, activations);
}

void bf16_matmul_by(const Bf16Kernels& kernels, const PackedMatrix& matrix, const Activations& activations) {
    if (!multiplies(matrix)) {
        return multiply_floats(matrix, activations);
    }
    const int64_t rows = activations.rows;
    const float* x = as_floats(activations, rows * matrix.columns());
    const Bf16Task task{matrix, rounded(kernels, matrix, x, rows), activations.y, activations.type, rows};
    multiply_tiles(kernels.tiles, task, kPairPanelColumns * kTileRows * sizeof(uint16_t));
}

}  // namespace glasschat::cpu
