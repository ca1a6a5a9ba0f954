// The largest numbers of each row, and a draw from it, as operations of MLX's graph.
#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include "mlx/array.h"

namespace glasschat {

// Ids [R, count] (uint32) of the `count` largest of each row of x [R, V] (float32), the largest first, the lower id
// first among equals. Throws std::invalid_argument for another shape or type, and for a count outside of 1 to V.
mlx::core::array largest(const mlx::core::array& x, int count);

// Id [R] (uint32) of the largest of each row of x [R, V] (float32), the lowest of equal ones; V where the largest is not
// finite or a number of the row is NaN. Throws std::invalid_argument for another shape or type.
mlx::core::array greedy(const mlx::core::array& x);

// How a row is drawn from: temperature, min_p, top_k, top_p, and the key of its noise.
using RowDraw = std::tuple<double, double, int64_t, double, uint64_t>;

// Id [R] (uint32) of a token drawn from each row of x [R, V] (float32), as in cpu/draw.h: on the CPU, whatever the
// default device. Throws std::invalid_argument for another shape or type, and for numbers out of their range.
mlx::core::array draw(const mlx::core::array& x, const std::vector<RowDraw>& rows);

}  // namespace glasschat
