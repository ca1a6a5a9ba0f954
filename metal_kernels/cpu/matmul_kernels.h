// The matmul kernels, in terms of Lanes and Words. A file that defines those for an instruction set includes this one
// and gets kernels of its own: everything here has internal linkage, so that no file runs code compiled for another.
#pragma once

#include <cstdint>

#include "cpu/lane_memory.h"
#include "cpu/matmul.h"
#include "cpu/tile_results.h"
#include "cpu/unroll.h"

namespace glasschat::cpu {
namespace {

// What one step of a kernel reads of a tile: `kColumns` columns from `kBytes` bytes. Field J is column `order(J)`.
struct FourBitCell {
    static constexpr bool kQuantized = true;
    static constexpr int kColumns = 8, kBytes = 64;
    static constexpr int order(int field) { return field / 2 + field % 2 * 4; }
    Words words;
    GLASSCHAT_INLINE static FourBitCell load(const uint8_t* from) { return {Words::load(from)}; }
    template <int Field>
    GLASSCHAT_INLINE Lanes column() const {
        return Lanes::field<4, Field>(words);
    }
};

struct EightBitCell {
    static constexpr bool kQuantized = true;
    static constexpr int kColumns = 4, kBytes = 64;
    static constexpr int order(int field) { return field; }
    Words words;
    GLASSCHAT_INLINE static EightBitCell load(const uint8_t* from) { return {Words::load(from)}; }
    template <int Field>
    GLASSCHAT_INLINE Lanes column() const {
        return Lanes::field<8, Field>(words);
    }
};

template <Float Type, int Columns>
struct FloatCell {
    static constexpr bool kQuantized = false;
    static constexpr int kColumns = Columns, kColumnBytes = kTileRows * (Type == Float::f32 ? 4 : 2);
    static constexpr int kBytes = kColumns * kColumnBytes;
    static constexpr int order(int field) { return field; }
    const uint8_t* start;
    GLASSCHAT_INLINE static FloatCell load(const uint8_t* from) { return {from}; }
    template <int Field>
    GLASSCHAT_INLINE Lanes column() const {
        return load_numbers(start + Field * kColumnBytes, Type, 0);
    }
};

// sums[row][chain] += the columns of one cell times x. Fields take turns among the chains, which are added up at the
// end: one sum alone would wait for itself at every column.
template <class Cell, int Rows, int Chains>
GLASSCHAT_INLINE inline void multiply_cell(const uint8_t* from, const float* x, int64_t stride,
                                           Lanes (&sums)[Rows][Chains]) {
    const Cell cell = Cell::load(from);
    unroll<Cell::kColumns>([&](auto field) GLASSCHAT_INLINE {
        const Lanes column = cell.template column<field>();
        unroll<Rows>([&](auto row) GLASSCHAT_INLINE {
            Lanes& sum = sums[row][field % Chains];
            sum = sum.plus_product(column, Lanes::all(x[row * stride + Cell::order(field)]));
        });
    });
}

template <int Rows, int Chains>
GLASSCHAT_INLINE inline void clear(Lanes (&sums)[Rows][Chains]) {
    unroll<Rows * Chains>([&](auto i) GLASSCHAT_INLINE { sums[i / Chains][i % Chains] = Lanes::zero(); });
}

template <int Chains>
GLASSCHAT_INLINE inline Lanes total(const Lanes (&chains)[Chains]) {
    Lanes sum = chains[0];
    unroll<Chains - 1>([&](auto i) GLASSCHAT_INLINE { sum = sum + chains[i + 1]; });
    return sum;
}

// How far ahead of the loads the next cells are asked for: with one row, the wait for memory is the whole cost.
constexpr int kPrefetch = 1536;

// One tile times `Rows` rows of x.
template <class Cell, class LastCell, int Rows>
GLASSCHAT_INLINE inline void multiply_tile(const MatmulTask& task, int64_t tile, int64_t first_row) {
    constexpr int kChains = (3 + Rows) / Rows;
    const PackedMatrix& matrix = task.matrix;
    const int64_t columns = matrix.columns();
    const float* x = task.x + first_row * columns;
    const uint8_t* from = matrix.tile(tile);
    float results[Rows * kTileRows];
    Lanes sums[Rows][kChains];
    if constexpr (Cell::kQuantized) {
        const int64_t groups = matrix.groups(), size = matrix.group_size();
        const uint8_t *scales = matrix.tile_scales(tile), *biases = matrix.tile_biases(tile);
        Lanes totals[Rows];
        unroll<Rows>([&](auto row) GLASSCHAT_INLINE { totals[row] = Lanes::zero(); });
        for (int64_t group = 0; group < groups; group++) {
            clear(sums);
            for (int64_t column = 0; column < size; column += Cell::kColumns, from += Cell::kBytes) {
                __builtin_prefetch(from + kPrefetch);
                multiply_cell<Cell>(from, x + group * size + column, columns, sums);
            }
            // sum of (q * scale + bias) * x = scale * sum of q * x, + bias * sum of x
            const Lanes scale = load_numbers(scales, matrix.scale_type(), group * kTileRows);
            const Lanes bias = load_numbers(biases, matrix.scale_type(), group * kTileRows);
            const float* group_sums = task.group_sums + first_row * groups + group;
            unroll<Rows>([&](auto row) GLASSCHAT_INLINE {
                totals[row] = totals[row].plus_product(scale, total(sums[row]));
                totals[row] = totals[row].plus_product(bias, Lanes::all(group_sums[row * groups]));
            });
        }
        unroll<Rows>([&](auto row) GLASSCHAT_INLINE { totals[row].store(results + row * kTileRows); });
    } else {
        clear(sums);
        int64_t column = 0;
        for (; column + Cell::kColumns <= columns; column += Cell::kColumns, from += Cell::kBytes) {
            __builtin_prefetch(from + kPrefetch);
            multiply_cell<Cell>(from, x + column, columns, sums);
        }
        for (; column < columns; column++, from += LastCell::kBytes) {
            multiply_cell<LastCell>(from, x + column, columns, sums);
        }
        unroll<Rows>([&](auto row) GLASSCHAT_INLINE { total(sums[row]).store(results + row * kTileRows); });
    }
    for (int row = 0; row < Rows; row++) {
        finish(matrix, task.y, task.type, tile, first_row + row, results + row * kTileRows);
    }
}

template <class Cell, class LastCell = Cell>
void few_rows(const MatmulTask& task, int64_t first_tile, int64_t end_tile) {
    for (int64_t tile = first_tile; tile < end_tile; tile++) {
        // Each run reads the tile anew: with a token and its drafts, as with an odd number of sessions, one is enough.
        in_exact_runs<kDecodeRows>(0, task.rows, [&](auto rows, int64_t first_row) GLASSCHAT_INLINE {
            multiply_tile<Cell, LastCell, rows>(task, tile, first_row);
        });
    }
}

// Columns [first, first + count) of one tile as floats: column k at `panel + k * stride`.
template <class Cell, class LastCell>
GLASSCHAT_INLINE inline void fill_panel(const PackedMatrix& matrix, int64_t tile, int64_t first, int64_t count,
                                        float* panel, int64_t stride) {
    const uint8_t* from = matrix.tile(tile);
    if constexpr (Cell::kQuantized) {
        from += first / Cell::kColumns * Cell::kBytes;
        const int64_t size = matrix.group_size();
        for (int64_t column = 0; column < count;) {
            const int64_t group = (first + column) / size;
            const Lanes scale = load_numbers(matrix.tile_scales(tile), matrix.scale_type(), group * kTileRows);
            const Lanes bias = load_numbers(matrix.tile_biases(tile), matrix.scale_type(), group * kTileRows);
            const int64_t left = (group + 1) * size - first, end = left < count ? left : count;
            for (; column < end; column += Cell::kColumns, from += Cell::kBytes) {
                const Cell cell = Cell::load(from);
                unroll<Cell::kColumns>([&](auto field) GLASSCHAT_INLINE {
                    const Lanes value = bias.plus_product(cell.template column<field>(), scale);
                    value.store(panel + (column + Cell::order(field)) * stride);
                });
            }
        }
    } else {
        from += first * LastCell::kBytes;
        for (int64_t column = 0; column < count; column++, from += LastCell::kBytes) {
            LastCell::load(from).template column<0>().store(panel + column * stride);
        }
    }
}

// A panel of `Tiles` tiles times `Rows` rows.
template <int Tiles, int Rows>
GLASSCHAT_INLINE inline void multiply_panel(const MatmulTask& task, const float* panel, float* sums, int64_t tile,
                                            int64_t row, int64_t first, int64_t count) {
    const int64_t columns = task.matrix.columns();
    const float* x = task.x + row * columns + first;
    float* kept = sums + row * Tiles * kTileRows;
    Lanes sum[Rows][Tiles];
    unroll<Rows * Tiles>([&](auto i) GLASSCHAT_INLINE {
        sum[i / Tiles][i % Tiles] = first == 0 ? Lanes::zero() : Lanes::load(kept + i * kTileRows);
    });
    for (int64_t column = 0; column < count; column++) {
        Lanes weights[Tiles];
        unroll<Tiles>([&](auto t) GLASSCHAT_INLINE {
            weights[t] = Lanes::load(panel + (column * Tiles + t) * kTileRows);
        });
        unroll<Rows>([&](auto r) GLASSCHAT_INLINE {
            const Lanes value = Lanes::all(x[r * columns + column]);
            unroll<Tiles>([&](auto t) GLASSCHAT_INLINE { sum[r][t] = sum[r][t].plus_product(value, weights[t]); });
        });
    }
    unroll<Rows * Tiles>([&](auto i) GLASSCHAT_INLINE { sum[i / Tiles][i % Tiles].store(kept + i * kTileRows); });
    if (first + count == columns) {
        for (int i = 0; i < Rows * Tiles; i++) {
            finish(task.matrix, task.y, task.type, tile + i % Tiles, row + i / Tiles, kept + i * kTileRows);
        }
    }
}

template <class Cell, class LastCell, int Tiles>
void multiply_panels(const MatmulTask& task, int64_t tile, float* panel, float* sums) {
    const int64_t columns = task.matrix.columns();
    for (int64_t first = 0; first < columns; first += kPanelColumns) {
        const int64_t count = columns - first < kPanelColumns ? columns - first : kPanelColumns;
        for (int t = 0; t < Tiles; t++) {
            fill_panel<Cell, LastCell>(task.matrix, tile + t, first, count, panel + t * kTileRows, Tiles * kTileRows);
        }
        in_runs<kPanelRows>(0, task.rows, [&](auto rows, int64_t row) GLASSCHAT_INLINE {
            multiply_panel<Tiles, rows>(task, panel, sums, tile, row, first, count);
        });
    }
}

template <class Cell, class LastCell = Cell>
void many_rows(const MatmulTask& task, int64_t first_tile, int64_t end_tile, void* panel, float* sums) {
    in_runs<kPanelTiles>(first_tile, end_tile, [&](auto tiles, int64_t tile) {
        multiply_panels<Cell, LastCell, tiles>(task, tile, static_cast<float*>(panel), sums);
    });
}

template <Float Type>
using Floats = FloatCell<Type, 4>;
template <Float Type>
using OneFloat = FloatCell<Type, 1>;

void few_rows_of_any(const MatmulTask& task, int64_t first_tile, int64_t end_tile) {
    switch (task.matrix.format()) {
        case Format::q4:
            return few_rows<FourBitCell>(task, first_tile, end_tile);
        case Format::q8:
            return few_rows<EightBitCell>(task, first_tile, end_tile);
        case Format::f32:
            return few_rows<Floats<Float::f32>, OneFloat<Float::f32>>(task, first_tile, end_tile);
        case Format::bf16:
            return few_rows<Floats<Float::bf16>, OneFloat<Float::bf16>>(task, first_tile, end_tile);
        case Format::f16:
            return few_rows<Floats<Float::f16>, OneFloat<Float::f16>>(task, first_tile, end_tile);
    }
}

void many_rows_of_any(const MatmulTask& task, int64_t first_tile, int64_t end_tile, void* panel, float* sums) {
    switch (task.matrix.format()) {
        case Format::q4:
            return many_rows<FourBitCell>(task, first_tile, end_tile, panel, sums);
        case Format::q8:
            return many_rows<EightBitCell>(task, first_tile, end_tile, panel, sums);
        case Format::f32:
            return many_rows<Floats<Float::f32>, OneFloat<Float::f32>>(task, first_tile, end_tile, panel, sums);
        case Format::bf16:
            return many_rows<Floats<Float::bf16>, OneFloat<Float::bf16>>(task, first_tile, end_tile, panel, sums);
        case Format::f16:
            return many_rows<Floats<Float::f16>, OneFloat<Float::f16>>(task, first_tile, end_tile, panel, sums);
    }
}

constexpr MatmulKernels kMatmul = {few_rows_of_any, many_rows_of_any, kPanelTiles, 2 * kPanelRows};

}  // namespace
}  // namespace glasschat::cpu
