// The int8 kernels, in terms of Lanes, Words and Dots. A file that defines those for an instruction set includes this one
// and gets kernels of its own.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "cpu/int8_matmul.h"
#include "cpu/lane_memory.h"
#include "cpu/tile_results.h"
#include "cpu/unroll.h"

namespace glasschat::cpu {
namespace {

// A cell of 64 bytes holds two quads (groups of four columns) at four bits, and one at eight.
constexpr int64_t kCellBytes = 64;

template <int Bits, int Quad>
GLASSCHAT_INLINE inline Words quad_of(const Words& cell) {
    if constexpr (Bits == 4) {
        return nibbles<Quad>(cell);
    } else {
        return cell;
    }
}

GLASSCHAT_INLINE inline int32_t four_bytes(const int8_t* from) {
    int32_t four;
    std::memcpy(&four, from, sizeof four);
    return four;
}

void quantize(const float* x, int64_t groups, int size, int8_t* elements, float* scales, float* sums) {
    for (int64_t group = 0; group < groups; group++, x += size, elements += size) {
        // A maximum may pass over a NaN; a sum never does.
        Lanes most = Lanes::zero(), poison = Lanes::zero();
        for (int column = 0; column < size; column += 16) {
            const Lanes lanes = load_some(x, Float::f32, column, size - column);
            most = most.max(lanes).max(Lanes::zero() - lanes);
            poison = poison.plus_product(lanes, Lanes::zero());
        }
        const float largest = most.largest(), scale = largest / 127 + poison.sum();
        const float inverse = largest > 0 ? 127 / largest : 0;
        // Adding 1.5 * 2^23 leaves no bit for a fraction: the float is rounded as the processor rounds, and its lowest
        // byte is the integer. A compiler turns that, unlike a conversion, into vectors everywhere.
        int32_t sum = 0;
        for (int column = 0; column < size; column++) {
            const float shifted = x[column] * inverse + 12582912.0f;
            int32_t bits;
            std::memcpy(&bits, &shifted, sizeof bits);
            elements[column] = static_cast<int8_t>(bits);
            sum += elements[column];
        }
        scales[group] = scale;
        sums[group] = scale * static_cast<float>(sum);
    }
}

// totals += scale * (sums * x's scale) + bias * (sum of x), for one group of one tile and row.
GLASSCHAT_INLINE inline Lanes plus_group(const Lanes& totals, const Dots& sums, const Lanes& scale, const Lanes& bias,
                                         const Int8Rows& x, int64_t group) {
    const Lanes scaled = sums.floats() * Lanes::all(x.scales[group]);
    return totals.plus_product(scale, scaled).plus_product(bias, Lanes::all(x.sums[group]));
}

constexpr int kInt8Prefetch = 1536;

template <int Bits, int Rows>
GLASSCHAT_INLINE inline void multiply_int8_tile(const Int8Task& task, int64_t tile, int64_t first_row) {
    const PackedMatrix& matrix = task.matrix;
    const int64_t columns = matrix.columns(), groups = matrix.groups(), size = matrix.group_size();
    const uint8_t *from = matrix.tile(tile), *scales = matrix.tile_scales(tile), *biases = matrix.tile_biases(tile);
    const int8_t* x = task.x.elements + first_row * columns;
    constexpr int kQuads = 8 / Bits;
    Lanes totals[Rows];
    unroll<Rows>([&](auto row) GLASSCHAT_INLINE { totals[row] = Lanes::zero(); });
    for (int64_t group = 0; group < groups; group++) {
        Dots sums[Rows];
        unroll<Rows>([&](auto row) GLASSCHAT_INLINE { sums[row] = Dots::zero(); });
        for (int64_t column = 0; column < size; column += 4 * kQuads, from += kCellBytes, x += 4 * kQuads) {
            __builtin_prefetch(from + kInt8Prefetch);
            const Words cell = Words::load(from);
            unroll<kQuads>([&](auto quad) GLASSCHAT_INLINE {
                const Words bytes = quad_of<Bits, quad>(cell);
                unroll<Rows>([&](auto row) GLASSCHAT_INLINE {
                    sums[row] = sums[row].template plus<Bits>(bytes, four_bytes(x + row * columns + 4 * quad));
                });
            });
        }
        const Lanes scale = load_numbers(scales, matrix.scale_type(), group * kTileRows);
        const Lanes bias = load_numbers(biases, matrix.scale_type(), group * kTileRows);
        unroll<Rows>([&](auto row) GLASSCHAT_INLINE {
            totals[row] = plus_group(totals[row], sums[row], scale, bias, task.x, (first_row + row) * groups + group);
        });
    }
    float results[Rows * kTileRows];
    unroll<Rows>([&](auto row) GLASSCHAT_INLINE { totals[row].store(results + row * kTileRows); });
    for (int row = 0; row < Rows; row++) {
        finish(matrix, task.y, task.type, tile, first_row + row, results + row * kTileRows);
    }
}

template <int Bits>
void multiply_int8_tiles(const Int8Task& task, int64_t first_tile, int64_t end_tile) {
    for (int64_t tile = first_tile; tile < end_tile; tile++) {
        in_exact_runs<kDotRows>(0, task.rows, [&](auto rows, int64_t first_row) GLASSCHAT_INLINE {
            multiply_int8_tile<Bits, rows>(task, tile, first_row);
        });
    }
}

void multiply_int8(const Int8Task& task, int64_t first_tile, int64_t end_tile) {
    return task.matrix.format() == Format::q4 ? multiply_int8_tiles<4>(task, first_tile, end_tile)
                                              : multiply_int8_tiles<8>(task, first_tile, end_tile);
}

// One kernel, for any number of rows.
constexpr Int8Kernels kInt8 = {quantize, {multiply_int8, nullptr, 1, std::numeric_limits<int>::max()}};

}  // namespace
}  // namespace glasschat::cpu
