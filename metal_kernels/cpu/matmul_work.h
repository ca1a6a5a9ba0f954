// How the work of a multiplication by a packed matrix is cut for the threads, and its activations made floats.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/matmul.h"
#include "cpu/packing.h"
#include "cpu/pool.h"
#include "cpu/scratch.h"

namespace glasschat::cpu {

// Tiles that a thread takes at a time, a multiple of `step`; all of them where sharing would cost more than it brings.
int64_t tiles_per_chunk(const PackedMatrix& matrix, int64_t rows, int64_t step);

// The activations [rows, columns] in float32: themselves, or a copy that lives until this thread's next call.
const float* as_floats(const Activations& activations, int64_t size);

// Calls kernel(first, end) for the tiles of a task's matrix, a multiple of `step` at a time, on all threads.
template <class Task, class Kernel>
void share_tiles(const Task& task, int64_t step, Kernel&& kernel) {
    const int64_t tiles = task.matrix.tiles(), most = tiles_per_chunk(task.matrix, task.rows, step);
    parallel_for((tiles + most - 1) / most,
                 [&](int64_t chunk) { kernel(chunk * most, std::min(tiles, (chunk + 1) * most)); });
}

// Lets all threads multiply the tiles of a task's matrix, with `panel_bytes` for each tile of a panel.
template <class Task>
void multiply_tiles(const TileKernels<Task>& kernel, const Task& task, int64_t panel_bytes) {
    const bool few = task.rows < kernel.many;
    share_tiles(task, few ? 1 : kernel.panel_tiles, [&](int64_t first, int64_t end) {
        if (few) {
            return kernel.few_rows(task, first, end);
        }
        static thread_local Scratch<uint8_t> panel;
        static thread_local Scratch<float> sums;
        kernel.many_rows(task, first, end, scratch(panel, panel_bytes * kernel.panel_tiles),
                         scratch(sums, task.rows * kernel.panel_tiles * kTileRows));
    });
}

}  // namespace glasschat::cpu
