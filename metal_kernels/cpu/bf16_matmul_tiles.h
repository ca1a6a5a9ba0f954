// The bfloat16 kernels by tile registers, in terms of Tiles beside Lanes, Words and Pairs. A pair of columns of a panel is a
// row of a tile register.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/bf16_matmul_kernels.h"
#include "cpu/tiles.h"

namespace glasschat::cpu {
namespace {

// From so many rows on tiles are used: a run of 16 costs the same however many of them count.
constexpr int kTiledRows = 8;

// What a tile register takes of a row of activations, in columns, and of a panel, in bytes.
constexpr int64_t kTileColumns = TileConfig::kMostBytes / sizeof(uint16_t);
constexpr int64_t kTilePanel = kPairPanelColumns * kTileRows * sizeof(uint16_t);

// Columns [first, first + count) of a panel of `Matrices` tiles by `Runs` runs of 16 rows, into registers of sums.
template <int Matrices, int Runs>
void add_pairs(const Bf16Task& task, const uint8_t* panel, int64_t row, int64_t panel_first, int64_t first,
               int64_t count) {
    unroll<Runs * Matrices>([&](auto i) { Tiles::zero<sums_register(i / Matrices, i % Matrices)>(); });
    for (int64_t column = first; column < first + count; column += kTileColumns) {
        unroll<Runs>([&](auto run) {
            const uint16_t* x = task.x.elements + (row + run * kTileRows) * task.x.stride + column;
            Tiles::load<left_register(run)>(x, task.x.stride * sizeof *x);
        });
        unroll<Matrices>([&](auto m) {
            const uint8_t* pairs = panel + m * kTilePanel + (column - panel_first) / 2 * kCellBytes;
            Tiles::load<right_register(m)>(pairs, kCellBytes);
        });
        unroll<Runs * Matrices>([&](auto i) {
            constexpr int run = i / Matrices, m = i % Matrices;
            Tiles::plus_pairs<sums_register(run, m), left_register(run), right_register(m)>();
        });
    }
}

// The same, added to the totals of the rows that count: group by group where a matrix is quantized.
template <int Matrices, int Runs>
void multiply_tile_panel(const Bf16Task& task, const uint8_t* panel, float* kept, int64_t tile, int64_t row,
                         int64_t first, int64_t count) {
    const PackedMatrix& matrix = task.matrix;
    const int64_t step = matrix.quantized() ? matrix.group_size() : count, groups = matrix.groups();
    const int64_t rows = std::min<int64_t>(task.rows - row, Runs * kTileRows);
    alignas(64) float sums[Runs * Matrices][kTileRows][kTileRows];
    for (int64_t column = first; column < first + count; column += step) {
        add_pairs<Matrices, Runs>(task, panel, row, first, column, step);
        unroll<Runs * Matrices>([&](auto i) {
            Tiles::store<sums_register(i / Matrices, i % Matrices)>(sums[i], sizeof sums[i][0]);
        });
        unroll<Matrices>([&](auto m) {
            const auto add = [&](const auto& more) GLASSCHAT_INLINE {
                for (int64_t r = 0; r < rows; r++) {
                    float* place = kept + ((row + r) * Matrices + m) * kTileRows;
                    const Lanes total = column == 0 ? Lanes::zero() : Lanes::load(place);
                    more(total, Lanes::load(sums[r / kTileRows * Matrices + m][r % kTileRows]), r).store(place);
                }
            };
            if (!matrix.quantized()) {
                return add([](const Lanes& total, const Lanes& sum, int64_t) { return total + sum; });
            }
            const int64_t group = column / step;
            const Lanes scale = load_numbers(matrix.tile_scales(tile + m), matrix.scale_type(), group * kTileRows);
            const Lanes bias = load_numbers(matrix.tile_biases(tile + m), matrix.scale_type(), group * kTileRows);
            add([&](const Lanes& total, const Lanes& sum, int64_t r) {
                const Lanes group_sum = Lanes::all(task.x.sums[(row + r) * groups + group]);
                return total.plus_product(scale, sum).plus_product(bias, group_sum);
            });
        });
    }
}

template <int Matrices>
void multiply_tile_panels(const Bf16Task& task, int64_t tile, uint8_t* panel, float* kept) {
    const PackedMatrix& matrix = task.matrix;
    const int64_t columns = matrix.columns();
    for (int64_t first = 0; first < columns; first += kPairPanelColumns) {
        const int64_t count = std::min(columns - first, kPairPanelColumns);
        for (int m = 0; m < Matrices; m++) {
            uint8_t* own = panel + m * kTilePanel;
            fill_panel_of_any(matrix, tile + m, first, count, own, kCellBytes);
            // Zeros fill up the last register.
            const int64_t pairs = (count + 1) / 2, whole = (count + kTileColumns - 1) / kTileColumns * kTileColumns / 2;
            std::memset(own + pairs * kCellBytes, 0, (whole - pairs) * kCellBytes);
        }
        in_runs<kTileRuns>(0, whole_tiles(task.rows) / kTileRows, [&](auto runs, int64_t run) {
            multiply_tile_panel<Matrices, runs>(task, panel, kept, tile, run * kTileRows, first, count);
        });
    }
    for (int64_t i = 0; i < task.rows * Matrices; i++) {
        finish(matrix, task.y, task.type, tile + i % Matrices, i / Matrices, kept + i * kTileRows);
    }
}

void multiply_by_tiles(const Bf16Task& task, int64_t first_tile, int64_t end_tile, void* panel, float* kept) {
    Tiles::configure(tile_config(TileConfig::kMostBytes));
    in_runs<kTileMatrices>(first_tile, end_tile, [&](auto matrices, int64_t tile) {
        multiply_tile_panels<matrices>(task, tile, static_cast<uint8_t*>(panel), kept);
    });
    Tiles::release();
}

constexpr Bf16Kernels kBf16Tiles = {round_row, kTileColumns, {few_rows, multiply_by_tiles, kTileMatrices, kTiledRows}};

}  // namespace
}  // namespace glasschat::cpu
