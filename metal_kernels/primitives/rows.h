// The operations of cpu/rows.h as operations of MLX's graph. They take slices of larger arrays as they are.
#pragma once

#include <utility>

#include "mlx/array.h"

namespace glasschat {

namespace mx = mlx::core;

// x [T, E] over the root of its mean square, times weight [E]. All throw std::invalid_argument for shapes and types that
// do not belong together.
mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps);

// The same of the sum of x and `added`, both [T, E], rounded to their type; and that sum.
std::pair<mx::array, mx::array> add_rms_norm(const mx::array& x, const mx::array& added, const mx::array& weight,
                                             float eps);

// Turns x [T, H, D] by positions [T].
mx::array rope(const mx::array& x, const mx::array& positions, float theta);

// gate * sigmoid(gate) * up, all [T, I].
mx::array silu_mul(const mx::array& gate, const mx::array& up);

}  // namespace glasschat
