// Activations times matrices of several experts: each row goes to the experts that were chosen for it.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/matmul.h"
#include "cpu/packing.h"

namespace glasschat::cpu {

// y [rows, share, outputs]: x [rows, columns], each row times the matrices of the `share` experts that `chosen` [rows,
// share] names. All experts' matrices are [outputs, columns]. Nothing has gaps.
struct ExpertTask {
    const std::vector<Matrix>& experts;
    const int32_t* chosen;
    const void* x;
    void* y;
    Float type;
    int64_t rows;
    int64_t share;
    Multiply multiply;
};

// The rows of one expert are multiplied together, so that its matrix is read once. What is chosen but is no expert gives
// rows of NaN.
void expert_linear(const ExpertTask& task);

}  // namespace glasschat::cpu
