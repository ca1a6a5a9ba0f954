#include "cpu/lanes_avx512.h"
// What follows is written in terms of what the line above defines.
#include <cstdint>
#include <cstring>

#include "cpu/bf16_matmul.h"
#include "cpu/lane_memory.h"
#include "cpu/tile_results.h"
#include "cpu/unroll.h"

namespace glasschat::cpu {
namespace {

// A lane of 32 bits holds the elements of two columns of one matrix row.
using Pairs = __m512i;

inline Lanes plus_pairs(const Lanes& sums, Pairs left, Pairs right) {
    return {_mm512_dpbf16_ps(sums.lanes, (__m512bh)left, (__m512bh)right)};
}

inline Pairs same_pair(const uint16_t* two) {
    int32_t bits;
    std::memcpy(&bits, two, sizeof bits);
    return _mm512_set1_epi32(bits);
}

// What one step of a kernel reads of a tile: kPairs pairs of columns. `order` is a permutation of 16 columns of x that
// puts those of a pair side by side.
struct FourBitPairs {
    static constexpr int kPairs = 4;
    Words words;
    GLASSCHAT_INLINE static FourBitPairs load(const uint8_t* from) { return {Words::load(from)}; }

    // Both halves of a lane hold a digit in their lowest four bits, after a shift. A permutation looks at five bits of an
    // index, so a table that holds the numbers 0 to 15 twice makes bfloat16 of them in one instruction.
    template <int Pair>
    GLASSCHAT_INLINE Pairs pair() const {
        alignas(64) static constexpr uint16_t kDigits[32] = {
            0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120,
            0x4130, 0x4140, 0x4150, 0x4160, 0x4170, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0,
            0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170};
        const __m512i digits = _mm512_load_si512(kDigits);
        return _mm512_permutexvar_epi16(Pair ? _mm512_srli_epi16(words.lanes, 4 * Pair) : words.lanes, digits);
    }

    static __m256i order() { return _mm256_setr_epi16(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15); }
};

struct EightBitPairs {
    static constexpr int kPairs = 2;
    Words words;
    GLASSCHAT_INLINE static EightBitPairs load(const uint8_t* from) { return {Words::load(from)}; }

    // The upper half of a float is its bfloat16, and up to 255 the lower half is zero.
    template <int Pair>
    GLASSCHAT_INLINE Pairs pair() const {
        const __m512i first = _mm512_castps_si512(Lanes::field<8, 2 * Pair>(words).lanes);
        const __m512i second = _mm512_castps_si512(Lanes::field<8, 2 * Pair + 1>(words).lanes);
        return _mm512_or_si512(_mm512_srli_epi32(first, 16), second);
    }

    static __m256i order() { return _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
};

// Two columns of dense bfloat16, which stand one after the other.
GLASSCHAT_INLINE inline Pairs dense_pair(const uint8_t* from, bool both) {
    alignas(64) static constexpr uint16_t kAlternating[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                              21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                              11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i columns = _mm512_maskz_loadu_epi16(both ? 0xffffffff : 0xffff, from);
    return _mm512_permutexvar_epi16(_mm512_load_si512(kAlternating), columns);
}

constexpr int64_t kCellBytes = 64;

void round_row(const PackedMatrix& matrix, const float* x, uint16_t* elements, float* sums) {
    const int64_t columns = matrix.columns(), size = matrix.group_size();
    const __m256i order = matrix.format() == Format::q4 ? FourBitPairs::order() : EightBitPairs::order();
    int64_t column = 0;
    for (; column + 16 <= columns; column += 16) {
        const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + column));
        const __m256i ordered = _mm256_permutexvar_epi16(order, rounded);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(elements + column), ordered);
    }
    for (; column < columns; column++) {
        elements[column] = numbers::to_bf16(x[column]);
    }
    if (columns % 2) {
        elements[columns] = 0;
    }
    const Pairs ones = _mm512_set1_epi16(0x3f80);
    for (int64_t group = 0; group < matrix.groups(); group++) {
        Lanes sum = Lanes::zero();
        for (int64_t i = group * size; i < (group + 1) * size; i += 32) {
            sum = plus_pairs(sum, _mm512_loadu_si512(elements + i), ones);
        }
        sums[group] = sum.sum();
    }
}

constexpr int kPrefetch = 1536;
constexpr int kFewRows = 8;
constexpr int kRows = 6;
constexpr int kTiles = 2;

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
    const uint16_t* x = task.x.elements + first_row * stride;
    Lanes totals[Rows];
    unroll<Rows>([&](auto row) GLASSCHAT_INLINE { totals[row] = Lanes::zero(); });
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
                    sum = plus_pairs(sum, weights, same_pair(x + row * stride + 2 * pair));
                });
            });
            from += kCellBytes;
            x += 2 * Cell::kPairs;
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
        in_runs<kFewRows>(0, task.rows, [&](auto rows, int64_t first_row) GLASSCHAT_INLINE {
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
            _mm512_storeu_si512(panel + (first + pair) * stride, cell.template pair<pair>());
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
        _mm512_storeu_si512(panel, dense_pair(from, column + 1 < count));
    }
}

// `pairs` pairs of columns of `Tiles` tiles times those of `Rows` rows.
template <int Tiles, int Rows>
GLASSCHAT_INLINE inline void multiply_pairs(const uint8_t*& panel, const uint16_t*& x, int64_t stride, int64_t pairs,
                                            Lanes (&sums)[Rows][Tiles]) {
    for (int64_t i = 0; i < pairs; i++, panel += Tiles * kCellBytes, x += 2) {
        Pairs weights[Tiles];
        unroll<Tiles>([&](auto t) GLASSCHAT_INLINE { weights[t] = _mm512_loadu_si512(panel + t * kCellBytes); });
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

}  // namespace

const Bf16Kernels kAvx512Bf16 = {round_row, {few_rows, many_rows, kTiles, 4 * kFewRows}};

}  // namespace glasschat::cpu
