// The largest numbers of each row, as an operation of MLX's graph.
#pragma once

#include "mlx/array.h"

namespace glasschat {

// Ids [R, count] (uint32) of the `count` largest of each row of x [R, V] (float32), the largest first, the lower id
// first among equals. Throws std::invalid_argument for another shape or type, and for a count outside of 1 to V.
mlx::core::array largest(const mlx::core::array& x, int count);

// Id [R] (uint32) of the largest of each row of x [R, V] (float32), the lowest of equal ones; V where the largest is not
// finite or a number of the row is NaN. Throws std::invalid_argument for another shape or type.
mlx::core::array greedy(const mlx::core::array& x);

}  // namespace glasschat
