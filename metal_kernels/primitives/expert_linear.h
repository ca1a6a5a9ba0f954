// Matrices of several experts as an operation of MLX's graph; see cpu/expert_linear.h.
#pragma once

#include <vector>

#include "mlx/array.h"
#include "primitives/packed_linear.h"

namespace glasschat {

// x [T, I], each row times the matrices of the experts that `chosen` [T, K] names: [T, K, O] in x's type. x may be
// rounded first, as in packed_linear. Throws std::invalid_argument for shapes and types that do not belong together.
mx::array expert_linear(const mx::array& x, std::vector<Matrix> experts, const mx::array& chosen, Rounding rounding);

}  // namespace glasschat
