// Sixteen sums of products of bytes in two AVX2 registers.
#pragma once

#include "cpu/lanes_avx2.h"

namespace glasschat::cpu {
namespace {

inline __m256i low_nibbles(__m256i bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }

template <int Half>
inline Words nibbles(const Words& words) {
    return {low_nibbles(_mm256_srli_epi16(words.low, 4 * Half)), low_nibbles(_mm256_srli_epi16(words.high, 4 * Half))};
}

struct Dots {
    __m256i low, high;

    static Dots zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }

    template <int Bits>
    Dots plus(const Words& bytes, int32_t four) const {
        const __m256i signs = _mm256_set1_epi32(four);
        return {plus_half<Bits>(low, bytes.low, signs), plus_half<Bits>(high, bytes.high, signs)};
    }

    Lanes floats() const { return {_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)}; }

   private:
    // The instruction that multiplies bytes adds pairs in 16 bits and saturates, which four bits can't reach: eight are
    // taken as two times four.
    template <int Bits>
    static __m256i plus_half(__m256i sums, __m256i bytes, __m256i signs) {
        if constexpr (Bits > 4) {
            const __m256i upper = _mm256_maddubs_epi16(low_nibbles(_mm256_srli_epi16(bytes, 4)), signs);
            sums = _mm256_add_epi32(sums, _mm256_madd_epi16(upper, _mm256_set1_epi16(16)));
            bytes = low_nibbles(bytes);
        }
        return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, signs), _mm256_set1_epi16(1)));
    }
};

constexpr int kDotRows = 4;

}  // namespace
}  // namespace glasschat::cpu
