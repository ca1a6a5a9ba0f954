#include "cpu/matmul.h"

#include "cpu/dispatch.h"
#include "cpu/matmul_work.h"

namespace glasschat::cpu {

namespace {

const MatmulKernels& kernels() {
    return GLASSCHAT_IN_FORCE(Matmul);
}

const float* sums_of_groups(const PackedMatrix& matrix, const float* x, int64_t rows) {
    if (!matrix.quantized()) {
        return nullptr;
    }
    static thread_local Scratch<float> kept;
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
    matmul_floats(matrix, as_floats(activations, activations.rows * matrix.columns()), activations);
}

void matmul_floats(const PackedMatrix& matrix, const float* x, const Activations& activations) {
    const MatmulKernels& kernel = kernels();
    const int64_t rows = activations.rows;
    const float* sums = rows < kernel.many ? sums_of_groups(matrix, x, rows) : nullptr;
    const MatmulTask task{matrix, x, sums, activations.y, activations.type, rows};
    multiply_tiles(kernel, task, kPanelColumns * kTileRows * sizeof(float));
}

}  // namespace glasschat::cpu
