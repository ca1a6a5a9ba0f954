// Sixteen floats at a time in one AVX-512 register. Only for files that are compiled for it.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/series.h"

namespace glasschat::cpu {
namespace {

struct Words {
    __m512i lanes;

    static Words load(const uint8_t* from) { return {_mm512_loadu_si512(from)}; }
};

struct Lanes {
    __m512 lanes;

    static Lanes zero() { return {_mm512_setzero_ps()}; }
    static Lanes all(float value) { return {_mm512_set1_ps(value)}; }
    static Lanes load(const float* from) { return {_mm512_loadu_ps(from)}; }

    static Lanes load_bf16(const uint16_t* from) {
        const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
        return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
    }

    static Lanes load_f16(const uint16_t* from) {
        return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
    }

    static Lanes load_bytes(const uint8_t* from) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))};
    }

    template <int Width, int Place>
    static Lanes field(const Words& words) {
        const __m512i shifted = Place ? _mm512_srli_epi32(words.lanes, Width * Place) : words.lanes;
        if constexpr (Width == 4) {
            // A permutation looks at the low four bits of an index alone, so the table of the numbers 0 to 15 turns
            // them into floats in one instruction, without a mask.
            const __m512 digits = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            return {_mm512_permutexvar_ps(shifted, digits)};
        } else {
            const bool last = Width * (Place + 1) == 32;
            const __m512i mask = _mm512_set1_epi32((1 << Width) - 1);
            return {_mm512_cvtepi32_ps(last ? shifted : _mm512_and_si512(shifted, mask))};
        }
    }

    void store(float* to) const { _mm512_storeu_ps(to, lanes); }

    Lanes plus_product(const Lanes& left, const Lanes& right) const {
        return {_mm512_fmadd_ps(left.lanes, right.lanes, lanes)};
    }

    Lanes operator+(const Lanes& other) const { return {_mm512_add_ps(lanes, other.lanes)}; }

    Lanes operator*(const Lanes& other) const { return {_mm512_mul_ps(lanes, other.lanes)}; }
    Lanes operator-(const Lanes& other) const { return {_mm512_sub_ps(lanes, other.lanes)}; }
    Lanes max(const Lanes& other) const { return {_mm512_max_ps(lanes, other.lanes)}; }
    Lanes min(const Lanes& other) const { return {_mm512_min_ps(lanes, other.lanes)}; }
    Lanes operator/(const Lanes& other) const { return {_mm512_div_ps(lanes, other.lanes)}; }
    float largest() const { return _mm512_reduce_max_ps(lanes); }
    float sum() const { return _mm512_reduce_add_ps(lanes); }

    // e^x = 2^n * e^r with |r| <= ln(2) / 2, where eight terms of the series are exact up to rounding.
    Lanes exp() const {
        // Of two operands with a NaN among them the second is taken: so a NaN stays one.
        const __m512 x = _mm512_max_ps(_mm512_set1_ps(-104), lanes);
        const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
        __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
        r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
        __m512 power = _mm512_set1_ps(kExponentialStart);
        for (const float term : kExponentialSeries) {
            power = _mm512_fmadd_ps(power, r, _mm512_set1_ps(term));
        }
        return {_mm512_scalef_ps(power, n)};
    }

    static void transpose(Lanes (&rows)[16]) {
        // Pairs of numbers, then of pairs, then of quarters of a register, trade places.
        __m512 pairs[16], fours[16];
        for (int i = 0; i < 16; i += 2) {
            pairs[i] = _mm512_unpacklo_ps(rows[i].lanes, rows[i + 1].lanes);
            pairs[i + 1] = _mm512_unpackhi_ps(rows[i].lanes, rows[i + 1].lanes);
        }
        for (int i = 0; i < 16; i += 4) {
            const auto wide = [&](int k) { return _mm512_castps_pd(pairs[i + k]); };
            fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(wide(0), wide(2)));
            fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(wide(0), wide(2)));
            fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(wide(1), wide(3)));
            fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(wide(1), wide(3)));
        }
        for (int i = 0; i < 4; i++) {
            const __m512 a = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0x44);
            const __m512 b = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0xee);
            const __m512 c = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0x44);
            const __m512 d = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0xee);
            rows[i].lanes = _mm512_shuffle_f32x4(a, c, 0x88);
            rows[i + 4].lanes = _mm512_shuffle_f32x4(a, c, 0xdd);
            rows[i + 8].lanes = _mm512_shuffle_f32x4(b, d, 0x88);
            rows[i + 12].lanes = _mm512_shuffle_f32x4(b, d, 0xdd);
        }
    }

    void store_bf16(uint16_t* to) const {
        const __m512i bits = _mm512_castps_si512(lanes);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
        // A NaN must not round to infinity.
        const __mmask16 nan = _mm512_cmp_ps_mask(lanes, lanes, _CMP_UNORD_Q);
        const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
        const __m512i chosen = _mm512_mask_mov_epi32(rounded, nan, quiet);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16)));
    }

    void store_f16(uint16_t* to) const {
        const __m256i halves = _mm512_cvtps_ph(lanes, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), halves);
    }
};

constexpr int kDecodeRows = 8;
constexpr int kPanelRows = 12;
constexpr int kPanelTiles = 2;
constexpr int kAttentionRows = 8;
constexpr int kAttentionTiles = 2;

}  // namespace
}  // namespace glasschat::cpu
