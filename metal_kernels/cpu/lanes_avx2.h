// Sixteen floats at a time in two AVX2 registers. Only for files that are compiled for it.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/numbers.h"
#include "cpu/series.h"

namespace glasschat::cpu {
namespace {

struct Words {
    __m256i low, high;

    static Words load(const uint8_t* from) {
        const auto* halves = reinterpret_cast<const __m256i*>(from);
        return {_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
    }
};

struct Lanes {
    __m256 low, high;

    static Lanes zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }

    static Lanes all(float value) {
        const __m256 both = _mm256_set1_ps(value);
        return {both, both};
    }

    static Lanes load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }

    static Lanes load_bf16(const uint16_t* from) { return {widen_bf16(from), widen_bf16(from + 8)}; }

    static Lanes load_f16(const uint16_t* from) {
        const auto* halves = reinterpret_cast<const __m128i*>(from);
        return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
    }

    static Lanes load_bytes(const uint8_t* from) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
    }

    template <int Width, int Place>
    static Lanes field(const Words& words) {
        const __m256i mask = _mm256_set1_epi32((1 << Width) - 1);
        const __m256i low = _mm256_and_si256(_mm256_srli_epi32(words.low, Width * Place), mask);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi32(words.high, Width * Place), mask);
        return {_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)};
    }

    void store(float* to) const {
        _mm256_storeu_ps(to, low);
        _mm256_storeu_ps(to + 8, high);
    }

    Lanes plus_product(const Lanes& left, const Lanes& right) const {
        return {_mm256_fmadd_ps(left.low, right.low, low), _mm256_fmadd_ps(left.high, right.high, high)};
    }

    Lanes operator+(const Lanes& other) const {
        return {_mm256_add_ps(low, other.low), _mm256_add_ps(high, other.high)};
    }

    Lanes operator*(const Lanes& other) const {
        return {_mm256_mul_ps(low, other.low), _mm256_mul_ps(high, other.high)};
    }

    Lanes operator-(const Lanes& other) const {
        return {_mm256_sub_ps(low, other.low), _mm256_sub_ps(high, other.high)};
    }

    Lanes max(const Lanes& other) const { return {_mm256_max_ps(low, other.low), _mm256_max_ps(high, other.high)}; }

    Lanes min(const Lanes& other) const { return {_mm256_min_ps(low, other.low), _mm256_min_ps(high, other.high)}; }

    Lanes operator/(const Lanes& other) const {
        return {_mm256_div_ps(low, other.low), _mm256_div_ps(high, other.high)};
    }

    float largest() const {
        float wide[8];
        _mm256_storeu_ps(wide, _mm256_max_ps(low, high));
        float largest = wide[0];
        for (const float each : wide) {
            largest = each > largest ? each : largest;
        }
        return largest;
    }

    float sum() const {
        float wide[8];
        _mm256_storeu_ps(wide, _mm256_add_ps(low, high));
        return ((wide[0] + wide[1]) + (wide[2] + wide[3])) + ((wide[4] + wide[5]) + (wide[6] + wide[7]));
    }

    Lanes exp() const { return {exp_of(low), exp_of(high)}; }

    static void transpose(Lanes (&rows)[16]) {
        // Four squares of 8 by 8; the two beside the diagonal trade places.
        __m256 squares[4][8];
        for (int i = 0; i < 8; i++) {
            squares[0][i] = rows[i].low;
            squares[1][i] = rows[i + 8].low;
            squares[2][i] = rows[i].high;
            squares[3][i] = rows[i + 8].high;
        }
        for (auto& square : squares) {
            transpose_square(square);
        }
        for (int i = 0; i < 8; i++) {
            rows[i] = {squares[0][i], squares[1][i]};
            rows[i + 8] = {squares[2][i], squares[3][i]};
        }
    }

    void store_bf16(uint16_t* to) const {
        float wide[16];
        store(wide);
        for (int i = 0; i < 16; i++) {
            to[i] = numbers::to_bf16(wide[i]);
        }
    }

    void store_f16(uint16_t* to) const {
        auto* halves = reinterpret_cast<__m128i*>(to);
        _mm_storeu_si128(halves, _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
        _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }

   private:
    static __m256 widen_bf16(const uint16_t* from) {
        const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
    }

    // e^x = 2^n * e^r with |r| <= ln(2) / 2, where eight terms of the series are exact up to rounding.
    static __m256 exp_of(__m256 numbers) {
        // Below, the power of two is no normal number any more; the result is 0 to all that is added to it.
        const __m256 lowest = _mm256_set1_ps(-87);
        // Of two operands with a NaN among them the second is taken: so a NaN stays one.
        const __m256 x = _mm256_max_ps(lowest, numbers);
        const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
        r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
        __m256 power = _mm256_set1_ps(kExponentialStart);
        for (const float term : kExponentialSeries) {
            power = _mm256_fmadd_ps(power, r, _mm256_set1_ps(term));
        }
        const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
        power = _mm256_mul_ps(power, _mm256_castsi256_ps(exponent));
        return _mm256_and_ps(power, _mm256_cmp_ps(numbers, lowest, _CMP_NLT_UQ));
    }

    static void transpose_square(__m256 (&rows)[8]) {
        __m256 pairs[8], fours[8];
        for (int i = 0; i < 8; i += 2) {
            pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) {
            fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
            fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
            fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
            fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
        }
        for (int i = 0; i < 4; i++) {
            rows[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
            rows[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
        }
    }
};

constexpr int kDecodeRows = 4;
constexpr int kPanelRows = 6;
constexpr int kPanelTiles = 1;
constexpr int kAttentionRows = 4;
constexpr int kAttentionTiles = 1;

}  // namespace
}  // namespace glasschat::cpu
