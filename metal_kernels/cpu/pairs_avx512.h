// Sixteen pairs of bfloat16 in one AVX-512 register. Only for files that are compiled for AVX512-BF16.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/lanes_avx512.h"
#include "cpu/unroll.h"

namespace glasschat::cpu {
namespace {

// A lane of 32 bits holds the elements of two columns of one matrix row.
using Pairs = __m512i;

GLASSCHAT_INLINE inline Pairs load_pairs(const void* from) {
    return _mm512_loadu_si512(from);
}

GLASSCHAT_INLINE inline void store_pairs(void* to, Pairs pairs) {
    _mm512_storeu_si512(to, pairs);
}

// Sums of both products of each lane.
inline Lanes plus_pairs(const Lanes& sums, Pairs left, Pairs right) {
    return {_mm512_dpbf16_ps(sums.lanes, (__m512bh)left, (__m512bh)right)};
}

// The same two numbers in all lanes.
inline Pairs same_pair(const uint16_t* two) {
    int32_t bits;
    std::memcpy(&bits, two, sizeof bits);
    return _mm512_set1_epi32(bits);
}

inline __m256i rounded(const float* x) {
    return (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x));
}

// What one step of a kernel reads of a tile: kPairs pairs of columns. `round` rounds 16 columns of x, and puts those of a
// pair side by side.
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

    static void round(const float* x, uint16_t* to) {
        const __m256i order = _mm256_setr_epi16(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
        const __m256i ordered = _mm256_permutexvar_epi16(order, rounded(x));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), ordered);
    }
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

    static void round(const float* x, uint16_t* to) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rounded(x));
    }
};

// Two columns of dense bfloat16, which stand one after the other.
GLASSCHAT_INLINE inline Pairs dense_pair(const uint8_t* from, bool both) {
    alignas(64) static constexpr uint16_t kAlternating[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                              21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                              11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i columns = _mm512_maskz_loadu_epi16(both ? 0xffffffff : 0xffff, from);
    return _mm512_permutexvar_epi16(_mm512_load_si512(kAlternating), columns);
}

}  // namespace
}  // namespace glasschat::cpu
