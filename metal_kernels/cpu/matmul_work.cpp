#include "cpu/matmul_work.h"

#include <algorithm>

namespace glasschat::cpu {

namespace {

// Work below which waking other threads costs more than they bring, in multiplications.
constexpr int64_t kWorthSharing = 1 << 16;
// More chunks than threads, so that a thread that was held up leaves its share to the others.
constexpr int64_t kChunksPerThread = 4;

}  // namespace

int64_t tiles_per_chunk(const PackedMatrix& matrix, int64_t rows, int64_t step) {
    const int64_t tiles = matrix.tiles();
    if (tiles * kTileRows * matrix.columns() * rows < kWorthSharing) {
        return tiles;
    }
    const int64_t chunks = int64_t{threads()} * kChunksPerThread;
    return (std::max<int64_t>(1, tiles / chunks) + step - 1) / step * step;
}

const float* as_floats(const Activations& activations, int64_t size) {
    if (activations.type == Float::f32) {
        return static_cast<const float*>(activations.x);
    }
    static thread_local Scratch<float> kept;
    float* floats = scratch(kept, size);
    const auto* halves = static_cast<const uint16_t*>(activations.x);
    if (activations.type == Float::bf16) {
        std::transform(halves, halves + size, floats, numbers::from_bf16);
    } else {
        std::transform(halves, halves + size, floats, numbers::from_f16);
    }
    return floats;
}

}  // namespace glasschat::cpu
