// What a processor with AMX can do with its tile registers, as the kernels see it: eight of up to 16 rows of 64 bytes.
// The kernels are written in terms of a type `Tiles`, which tiles_amx.h defines by the processor's instructions, and
// tests by plain C++:
//
//   Tiles::configure(config)            the sizes of all eight, which become zero
//   Tiles::release()                    gives the registers back, so that no switch of threads has to save them
//   Tiles::zero<T>()
//   Tiles::load<T>(from, stride)        rows `stride` bytes apart
//   Tiles::store<T>(to, stride)
//   Tiles::plus_bytes<S, L, R>()        S += L * R: of signed bytes L [rows, 4 n] and unsigned R [n, columns, 4]
//   Tiles::plus_pairs<S, L, R>()        the same of bfloat16: L [rows, 2 n] and R [n, columns, 2]
//
// Four neighbouring columns of L meet four neighbouring bytes of R in one step, which is how a packed tile has them.
#pragma once

#include <cstdint>

#include "cpu/packing.h"

namespace glasschat::cpu {

// As the processor reads it from memory.
struct TileConfig {
    static constexpr int kRegisters = 8, kMostRows = 16, kMostBytes = 64;

    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// The kernels' use of them: sums of two runs of 16 rows of activations by two tiles of a matrix, with what is multiplied.
inline constexpr int kTileRuns = 2;
inline constexpr int kTileMatrices = 2;

constexpr int sums_register(int run, int matrix) {
    return run * kTileMatrices + matrix;
}
constexpr int left_register(int run) {
    return kTileRuns * kTileMatrices + run;
}
constexpr int right_register(int matrix) {
    return kTileRuns * kTileMatrices + kTileRuns + matrix;
}

// For products that take `depth` bytes of a row of activations at a time, a multiple of 4.
constexpr TileConfig tile_config(int depth) {
    TileConfig config;
    for (int i = 0; i < TileConfig::kRegisters; i++) {
        const bool left = i >= left_register(0) && i < right_register(0), right = i >= right_register(0);
        config.row_bytes[i] = static_cast<uint16_t>(left ? depth : TileConfig::kMostBytes);
        config.rows[i] = static_cast<uint8_t>(right ? depth / 4 : kTileRows);
    }
    return config;
}

// A multiple of 16 rows: kernels read whole tiles of activations, and throw away what comes of rows that are none.
inline int64_t whole_tiles(int64_t rows) {
    return (rows + kTileRows - 1) / kTileRows * kTileRows;
}

}  // namespace glasschat::cpu
