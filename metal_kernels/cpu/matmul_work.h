// How the work of a multiplication by a packed matrix is cut for the threads, and its activations made floats.
#pragma once

#include <cstdint>

#include "cpu/matmul.h"
#include "cpu/packing.h"

namespace glasschat::cpu {

// Tiles that a thread takes at a time, a multiple of `step`; all of them where sharing would cost more than it brings.
int64_t tiles_per_chunk(const PackedMatrix& matrix, int64_t rows, int64_t step);

// The activations [rows, columns] in float32: themselves, or a copy that lives until this thread's next call.
const float* as_floats(const Activations& activations, int64_t size);

}  // namespace glasschat::cpu
