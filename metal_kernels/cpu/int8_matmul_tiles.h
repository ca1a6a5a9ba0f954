// The int8 kernels by tile registers, in terms of Tiles beside Lanes, Words and Dots. A cell of a packed tile at eight
// bits is a row of a tile register as it stands; at four bits a panel of bytes is unpacked, which all rows share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/int8_matmul_kernels.h"
#include "cpu/tiles.h"

namespace glasschat::cpu {
namespace {

// From so many rows on tiles are used: a run of 16 costs the same however many of them count.
constexpr int kTiledRows = 8;

constexpr int64_t kBytePanel = kBytePanelColumns * kTileRows;

void unpack_bytes(const uint8_t* from, int64_t columns, uint8_t* to) {
    for (int64_t column = 0; column < columns; column += 8, from += kCellBytes, to += 2 * kCellBytes) {
        const Words cell = Words::load(from), low = nibbles<0>(cell), high = nibbles<1>(cell);
        std::memcpy(to, &low, kCellBytes);
        std::memcpy(to + kCellBytes, &high, kCellBytes);
    }
}

// Columns [first, first + count) of `Matrices` tiles, as bytes from `weights` on, by `Runs` runs of 16 rows.
template <int Matrices, int Runs>
void multiply_bytes(const Int8Task& task, const uint8_t* const (&weights)[Matrices], float* kept, int64_t tile,
                    int64_t row, int64_t first, int64_t count, int depth) {
    const PackedMatrix& matrix = task.matrix;
    const int64_t columns = matrix.columns(), groups = matrix.groups(), size = matrix.group_size();
    alignas(64) int32_t sums[Runs * Matrices][kTileRows][kTileRows];
    for (int64_t group = first / size; group < (first + count) / size; group++) {
        unroll<Runs * Matrices>([&](auto i) { Tiles::zero<sums_register(i / Matrices, i % Matrices)>(); });
        for (int64_t column = group * size; column < (group + 1) * size; column += depth) {
            unroll<Runs>([&](auto run) {
                const int8_t* x = task.x.elements + (row + run * kTileRows) * columns + column;
                Tiles::load<left_register(run)>(x, columns);
            });
            unroll<Matrices>([&](auto m) {
                Tiles::load<right_register(m)>(weights[m] + (column - first) * kTileRows, kCellBytes);
            });
            unroll<Runs * Matrices>([&](auto i) {
                constexpr int run = i / Matrices, m = i % Matrices;
                Tiles::plus_bytes<sums_register(run, m), left_register(run), right_register(m)>();
            });
        }
        unroll<Runs * Matrices>([&](auto i) {
            Tiles::store<sums_register(i / Matrices, i % Matrices)>(sums[i], sizeof sums[i][0]);
        });
        const int64_t rows = std::min<int64_t>(task.rows - row, Runs * kTileRows);
        unroll<Matrices>([&](auto m) {
            const Lanes scale = load_numbers(matrix.tile_scales(tile + m), matrix.scale_type(), group * kTileRows);
            const Lanes bias = load_numbers(matrix.tile_biases(tile + m), matrix.scale_type(), group * kTileRows);
            for (int64_t r = 0; r < rows; r++) {
                Dots dots;
                std::memcpy(&dots, sums[r / kTileRows * Matrices + m][r % kTileRows], sizeof dots);
                float* place = kept + ((row + r) * Matrices + m) * kTileRows;
                const Lanes total = group == 0 ? Lanes::zero() : Lanes::load(place);
                plus_group(total, dots, scale, bias, task.x, (row + r) * groups + group).store(place);
            }
        });
    }
}

template <int Matrices>
void multiply_byte_panels(const Int8Task& task, int64_t tile, uint8_t* panel, float* kept, int depth) {
    const PackedMatrix& matrix = task.matrix;
    const bool unpacks = matrix.format() == Format::q4;
    const int64_t columns = matrix.columns();
    for (int64_t first = 0; first < columns; first += kBytePanelColumns) {
        const int64_t count = std::min(columns - first, kBytePanelColumns);
        const uint8_t* weights[Matrices];
        for (int m = 0; m < Matrices; m++) {
            weights[m] = unpacks ? panel + m * kBytePanel : matrix.tile(tile + m) + first * kTileRows;
            if (unpacks) {
                unpack_bytes(matrix.tile(tile + m) + first / 8 * kCellBytes, count, panel + m * kBytePanel);
            }
        }
        in_runs<kTileRuns>(0, whole_tiles(task.rows) / kTileRows, [&](auto runs, int64_t run) {
            multiply_bytes<Matrices, runs>(task, weights, kept, tile, run * kTileRows, first, count, depth);
        });
    }
    for (int64_t i = 0; i < task.rows * Matrices; i++) {
        finish(matrix, task.y, task.type, tile + i % Matrices, i / Matrices, kept + i * kTileRows);
    }
}

void multiply_by_tiles(const Int8Task& task, int64_t first_tile, int64_t end_tile, void* panel, float* kept) {
    const int size = task.matrix.group_size();
    if (size % 32 || kBytePanelColumns % size) {
        return multiply_int8(task, first_tile, end_tile);
    }
    const int depth = size % TileConfig::kMostBytes ? 32 : TileConfig::kMostBytes;
    Tiles::configure(tile_config(depth));
    in_runs<kTileMatrices>(first_tile, end_tile, [&](auto matrices, int64_t tile) {
        multiply_byte_panels<matrices>(task, tile, static_cast<uint8_t*>(panel), kept, depth);
    });
    Tiles::release();
}

constexpr Int8Kernels kInt8Tiles = {quantize, {multiply_int8, multiply_by_tiles, kTileMatrices, kTiledRows}};

}  // namespace
}  // namespace glasschat::cpu
