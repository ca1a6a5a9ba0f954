// Sixteen sums of products of bytes in one AVX-512 register. A file that is compiled for VNNI gets its instruction.
#pragma once

#include "cpu/lanes_avx512.h"

namespace glasschat::cpu {
namespace {

inline __m512i low_nibbles(__m512i bytes) { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }

template <int Half>
inline Words nibbles(const Words& words) {
    return {low_nibbles(_mm512_srli_epi16(words.lanes, 4 * Half))};
}

struct Dots {
    __m512i lanes;

    static Dots zero() { return {_mm512_setzero_si512()}; }

    template <int Bits>
    Dots plus(const Words& words, int32_t four) const {
        const __m512i signs = _mm512_set1_epi32(four);
#if defined(__AVX512VNNI__)
        return {_mm512_dpbusd_epi32(lanes, words.lanes, signs)};
#else
        // The instruction that multiplies bytes adds pairs in 16 bits and saturates, which four bits can't reach: eight
        // are taken as two times four.
        __m512i sums = lanes, bytes = words.lanes;
        if constexpr (Bits > 4) {
            const __m512i upper = _mm512_maddubs_epi16(low_nibbles(_mm512_srli_epi16(bytes, 4)), signs);
            sums = _mm512_add_epi32(sums, _mm512_madd_epi16(upper, _mm512_set1_epi16(16)));
            bytes = low_nibbles(bytes);
        }
        const __m512i pairs = _mm512_maddubs_epi16(bytes, signs);
        return {_mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
#endif
    }

    Lanes floats() const { return {_mm512_cvtepi32_ps(lanes)}; }
};

constexpr int kDotRows = 8;

}  // namespace
}  // namespace glasschat::cpu
