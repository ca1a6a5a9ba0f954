// The largest numbers of long rows, without sorting the rows: what sampling needs of the logits.
#pragma once

#include <cstdint>

namespace glasschat::cpu {

// `ids` [rows, count] of the `count` largest of each row of x [rows, width], the largest first; of equal numbers the one
// with the lower id comes first. -0 is below 0, and NaN below or above all other numbers by its sign. Uses the pool.
void largest(const float* x, int64_t rows, int64_t width, int64_t count, uint32_t* ids);

}  // namespace glasschat::cpu
