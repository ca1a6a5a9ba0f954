// The bfloat16 kernels, in terms of Lanes, Words and Pairs. A file that defines those for an instruction set includes this
// one and gets kernels of its own.
#pragma once

#include <cstdint>

#include "cpu/bf16_matmul.h"
#include "cpu/lane_memory.h"
#include "cpu/tile_results.h"
#include "cpu/unroll.h"

namespace glasschat::cpu {
namespace {

constexpr int64_t kCellBytes = 64;

void round_row(const PackedMatrix& matrix, const float* x, int64_t stride, uint16_t* elements, float* sums) {
    const int64_t columns = matrix.columns(), size = matrix.group_size();
    int64_t column = 0;
    for (; column + 16 <= columns; column += 16) {
        if (matrix.format() == Format::q4) {
            FourBitPairs::round(x + column, elements + column);
        } else {
            EightBitPairs::round(x + column, elements + column);
        }
    }
    for (; column < columns; column++) {
        elements[column] = numbers::to_bf16(x[column]);
    }
    for (; column < stride; column++) {
        elements[column] = 0;
    }
    constexpr uint16_t kOnes[2] = {0x3f80, 0x3f80};
    const Pairs ones = same_pair(kOnes);
    for (int64_t group = 0; group < matrix.groups(); group++) {
        Lanes sum = Lanes::zero();
        for (int64_t i = group * size; i < (group + 1) * size; i += 32) {
            sum = plus_pairs(sum, load_pairs(elements + i), ones);
        }
        sums[group] = sum.sum();
    }
}

constexpr int kPrefetch = 1536;
constexpr int kFewRows = 8;
constexpr int kRows = 6;
constexpr int kTiles = 2;

// The next columns of a row. A compiler that sees all rows step together keeps one pointer, and for every row and column
// of a step an offset from it: more than there are registers, so that it loads them again at every step.
GLASSCHAT_INLINE inline const uint16_t* stepped(const uint16_t* row, int64_t columns) {
    row += columns;
    asm("" : "+r"(row));
    return row;
}

template <int Rows>
GLASSCHAT_INLINE inline void finish_tile(const Bf16Task& task, int64_t tile, int64_t first_row, Lanes (&totals)[Rows]) {
    float results[Rows * kTileRows];
    unroll<Rows>([&](auto row) GLASSCHAT_INLINE { totals[row].store(results + row * kTileRows); });
    for (int row = 0; row < Rows; row++) {
        finish(task.matrix, task.y, task.type, tile, first_row + row, results + row * kTileRows);
    }
}

// One quantized tile times `Rows` rows.
template <class Cell, int Rows>
GLASSCHAT_INLINE inline void multiply_tile(const Bf16Task& task, int64_t tile, int64_t first_row) {
    // Pairs take turns among the chains, so that no sum waits for itself.
    constexpr int kChains = Rows >= 6 ? 1 : Rows >= 3 ? 2 : Cell::kPairs;
    const PackedMatrix& matrix = task.matrix;
    const int64_t groups = matrix.groups(), size = matrix.group_size(), stride = task.x.stride;
    const uint8_t *from = matrix.tile(tile), *scales = matrix.tile_scales(tile), *biases = matrix.tile_biases(tile);
    const uint16_t* x[Rows];
    Lanes totals[Rows];
    unroll<Rows>([&](auto row) GLASSCHAT_INLINE {
        x[row] = task.x.elements + (first_row + row) * stride;
        totals[row] = Lanes::zero();
    });
    for (int64_t group = 0; group < groups; group++) {
        Lanes sums[Rows][kChains];
        unroll<Rows * kChains>([&](auto i) GLASSCHAT_INLINE { sums[i / kChains][i % kChains] = Lanes::zero(); });
        for (int64_t column = 0; column < size; column += 2 * Cell::kPairs) {
            __builtin_prefetch(from + kPrefetch);
            const Cell cell = Cell::load(from);
            unroll<Cell::kPairs>([&](auto pair) GLASSCHAT_INLINE {
                const Pairs weights = cell.template pair<pair>();
                unroll<Rows>([&](auto row) GLASSCHAT_INLINE {
                    Lanes& sum = sums[row][pair % kChains];
                    sum = plus_pairs(sum, weights, same_pair(x[row] + 2 * pair));
                });
            });
            from += kCellBytes;
            unroll<Rows>([&](auto row) GLASSCHAT_INLINE { x[row] = stepped(x[row], 2 * Cell::kPairs); });
        }
        const Lanes scale = load_numbers(scales, matrix.scale_type(), group * kTileRows);
        const Lanes bias = load_numbers(biases, matrix.scale_type(), group * kTileRows);
        const float* group_sums = task.x.sums + first_row * groups + group;
        unroll<Rows>([&](auto row) GLASSCHAT_INLINE {
            Lanes sum = sums[row][0];
            unroll<kChains - 1>([&](auto chain) GLASSCHAT_INLINE { sum = sum + sums[row][chain + 1]; });
            totals[row] = totals[row].plus_product(scale, sum);
            totals[row] = totals[row].plus_product(bias, Lanes::all(group_sums[row * groups]));
        });
    }
    finish_tile(task, tile, first_row, totals);
}

// One dense tile times `Rows` rows.
template <int Rows>
GLASSCHAT_INLINE inline void multiply_dense_tile(const Bf16Task& task, int64_t tile, int64_t first_row) {
    constexpr int kChains = Rows >= 6 ? 1 : Rows >= 3 ? 2 : 4;
    const int64_t columns = task.matrix.columns(), stride = task.x.stride;
    const uint8_t* from = task.matrix.tile(tile);
    const uint16_t* x = task.x.elements + first_row * stride;
    Lanes sums[Rows][kChains];
    unroll<Rows * kChains>([&](auto i) GLASSCHAT_INLINE { sums[i / kChains][i % kChains] = Lanes::zero(); });
    const auto multiply = [&](auto chain, bool both) GLASSCHAT_INLINE {
        const Pairs weights = dense_pair(from, both);
        unroll<Rows>([&](auto row) GLASSCHAT_INLINE {
            sums[row][chain] = plus_pairs(sums[row][chain], weights, same_pair(x + row * stride));
        });
        from += kCellBytes;
        x += 2;
    };
    int64_t column = 0;
    for (; column + 2 * kChains <= columns; column += 2 * kChains) {
        __builtin_prefetch(from + kPrefetch);
        unroll<kChains>([&](auto chain) GLASSCHAT_INLINE { multiply(chain, true); });
    }
    for (; column < columns; column += 2) {
        multiply(std::integral_constant<int, 0>{}, column + 1 < columns);
    }
    Lanes totals[Rows];
    unroll<Rows>([&](auto row) GLASSCHAT_INLINE {
        totals[row] = sums[row][0];
        unroll<kChains - 1>([&](auto i) GLASSCHAT_INLINE { totals[row] = totals[row] + sums[row][i + 1]; });
    });
    finish_tile(task, tile, first_row, totals);
}

void few_rows(const Bf16Task& task, int64_t first_tile, int64_t end_tile) {
    for (int64_t tile = first_tile; tile < end_tile; tile++) {
        // Each run reads and unpacks the tile anew.
        in_exact_runs<kFewRows>(0, task.rows, [&](auto rows, int64_t first_row) GLASSCHAT_INLINE {
            if (task.matrix.format() == Format::q4) {
                multiply_tile<FourBitPairs, rows>(task, tile, first_row);
            } else if (task.matrix.format() == Format::q8) {
                multiply_tile<EightBitPairs, rows>(task, tile, first_row);
            } else {
                multiply_dense_tile<rows>(task, tile, first_row);
            }
        });
    }
}

template <class Cell>
void fill_panel(const uint8_t* from, int64_t pairs, uint8_t* panel, int64_t stride) {
    for (int64_t first = 0; first < pairs; first += Cell::kPairs, from += kCellBytes) {
        const Cell cell = Cell::load(from);
        unroll<Cell::kPairs>([&](auto pair) GLASSCHAT_INLINE {
            store_pairs(panel + (first + pair) * stride, cell.template pair<pair>());
        });
    }
}

// Columns [first, first + count) of one tile: pair k at `panel + k * stride`. `first` is a multiple of a cell's columns.
void fill_panel_of_any(const PackedMatrix& matrix, int64_t tile, int64_t first, int64_t count, uint8_t* panel,
                       int64_t stride) {
    const uint8_t* from = matrix.tile(tile);
    if (matrix.format() == Format::q4) {
        return fill_panel<FourBitPairs>(from + first / 8 * kCellBytes, count / 2, panel, stride);
    }
    if (matrix.format() == Format::q8) {
        return fill_panel<EightBitPairs>(from + first / 4 * kCellBytes, count / 2, panel, stride);
    }
    from += first / 2 * kCellBytes;
    for (int64_t column = 0; column < count; column += 2, from += kCellBytes, panel += stride) {
        store_pairs(panel, dense_pair(from, column + 1 < count));
    }
}

// `pairs` pairs of columns of `Tiles` tiles times those of `Rows` rows.
template <int Tiles, int Rows>
GLASSCHAT_INLINE inline void multiply_pairs(const uint8_t*& panel, const uint16_t*& x, int64_t stride, int64_t pairs,
                                            Lanes (&sums)[Rows][Tiles]) {
    for (int64_t i = 0; i < pairs; i++, panel += Tiles * kCellBytes, x += 2) {
        Pairs weights[Tiles];
        unroll<Tiles>([&](auto t) GLASSCHAT_INLINE { weights[t] = load_pairs(panel + t * kCellBytes); });
        unroll<Rows>([&](auto r) GLASSCHAT_INLINE {
            const Pairs two = same_pair(x + r * stride);
            unroll<Tiles>([&](auto t) GLASSCHAT_INLINE { sums[r][t] = plus_pairs(sums[r][t], weights[t], two); });
        });
    }
}

template <int Tiles, int Rows>
GLASSCHAT_INLINE inline void multiply_panel(const Bf16Task& task, const uint8_t* panel, float* kept, int64_t tile,
                                            int64_t row, int64_t first, int64_t count) {
    const PackedMatrix& matrix = task.matrix;
    const int64_t stride = task.x.stride, size = matrix.group_size(), groups = matrix.groups();
    const uint16_t* x = task.x.elements + row * stride + first;
    kept += row * Tiles * kTileRows;
    Lanes totals[Rows][Tiles];
    unroll<Rows * Tiles>([&](auto i) GLASSCHAT_INLINE {
        totals[i / Tiles][i % Tiles] = first == 0 ? Lanes::zero() : Lanes::load(kept + i * kTileRows);
    });
    if (matrix.quantized()) {
        for (int64_t group = first / size; group < (first + count) / size; group++) {
            Lanes sums[Rows][Tiles];
            unroll<Rows * Tiles>([&](auto i) GLASSCHAT_INLINE { sums[i / Tiles][i % Tiles] = Lanes::zero(); });
            multiply_pairs<Tiles, Rows>(panel, x, stride, size / 2, sums);
            unroll<Tiles>([&](auto t) GLASSCHAT_INLINE {
                const Lanes scale = load_numbers(matrix.tile_scales(tile + t), matrix.scale_type(), group * kTileRows);
                const Lanes bias = load_numbers(matrix.tile_biases(tile + t), matrix.scale_type(), group * kTileRows);
                unroll<Rows>([&](auto r) GLASSCHAT_INLINE {
                    const Lanes sum = Lanes::all(task.x.sums[(row + r) * groups + group]);
                    totals[r][t] = totals[r][t].plus_product(scale, sums[r][t]).plus_product(bias, sum);
                });
            });
        }
    } else {
        multiply_pairs<Tiles, Rows>(panel, x, stride, (count + 1) / 2, totals);
    }
    unroll<Rows * Tiles>([&](auto i) GLASSCHAT_INLINE { totals[i / Tiles][i % Tiles].store(kept + i * kTileRows); });
    if (first + count == matrix.columns()) {
        for (int i = 0; i < Rows * Tiles; i++) {
            finish(matrix, task.y, task.type, tile + i % Tiles, row + i / Tiles, kept + i * kTileRows);
        }
    }
}

template <int Tiles>
void multiply_panels(const Bf16Task& task, int64_t tile, uint8_t* panel, float* sums) {
    const int64_t columns = task.matrix.columns();
    for (int64_t first = 0; first < columns; first += kPairPanelColumns) {
        const int64_t count = columns - first < kPairPanelColumns ? columns - first : kPairPanelColumns;
        for (int t = 0; t < Tiles; t++) {
            fill_panel_of_any(task.matrix, tile + t, first, count, panel + t * kCellBytes, Tiles * kCellBytes);
        }
        in_exact_runs<kRows>(0, task.rows, [&](auto rows, int64_t row) GLASSCHAT_INLINE {
            multiply_panel<Tiles, rows>(task, panel, sums, tile, row, first, count);
        });
    }
}

void many_rows(const Bf16Task& task, int64_t first_tile, int64_t end_tile, void* panel, float* sums) {
    in_runs<kTiles>(first_tile, end_tile, [&](auto tiles, int64_t tile) {
        multiply_panels<tiles>(task, tile, static_cast<uint8_t*>(panel), sums);
    });
}

constexpr Bf16Kernels kBf16 = {round_row, 2, {few_rows, many_rows, kTiles, 4 * kFewRows}};

}  // namespace
}  // namespace glasschat::cpu
