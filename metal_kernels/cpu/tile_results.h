// The end of every multiplication by a packed matrix. Included after a definition of Lanes.
#pragma once

#include <cstdint>

#include "cpu/lane_memory.h"
#include "cpu/packing.h"

namespace glasschat::cpu {
namespace {

// Adds the layer's bias to the 16 sums of a tile for one row, and writes as many as the matrix has rows. Called once per
// tile and row, so it is kept out of line: the loops before it are what must stay small.
__attribute__((noinline)) void finish(const PackedMatrix& matrix, void* y, Float type, int64_t tile, int64_t row,
                                      const float* sums) {
    const int64_t first = tile * kTileRows, valid = matrix.rows() - first;
    Lanes sum = Lanes::load(sums);
    if (matrix.bias()) {
        sum = sum + Lanes::load(matrix.bias() + first);
    }
    store_some(sum, y, type, row * matrix.rows() + first, valid);
}

}  // namespace
}  // namespace glasschat::cpu
