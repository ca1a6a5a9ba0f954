// Sixteen pairs of bfloat16 in plain C++: what cpu/pairs_avx512.h is read against, and the tile kernels' lanes on machines
// without AVX-512.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/lanes_portable.h"
#include "cpu/unroll.h"

namespace glasschat::cpu {
namespace {

struct Pairs {
    uint16_t halves[32];
};

inline Pairs load_pairs(const void* from) {
    Pairs pairs;
    std::memcpy(&pairs, from, sizeof pairs);
    return pairs;
}

inline void store_pairs(void* to, const Pairs& pairs) {
    std::memcpy(to, &pairs, sizeof pairs);
}

inline Lanes plus_pairs(const Lanes& sums, const Pairs& left, const Pairs& right) {
    Lanes more = sums;
    for (int i = 0; i < 32; i++) {
        more.lane[i / 2] += numbers::from_bf16(left.halves[i]) * numbers::from_bf16(right.halves[i]);
    }
    return more;
}

inline Pairs same_pair(const uint16_t* two) {
    Pairs pairs;
    for (int i = 0; i < 32; i++) {
        pairs.halves[i] = two[i % 2];
    }
    return pairs;
}

// Digits of all lanes' words as bfloat16, which holds them exactly.
inline Pairs pair_of(const Words& words, int bits, int first_shift, int second_shift) {
    Pairs pairs;
    for (int i = 0; i < 32; i++) {
        const uint32_t digit = words.lane[i / 2] >> (i % 2 ? second_shift : first_shift) & ((1u << bits) - 1);
        pairs.halves[i] = numbers::to_bf16(static_cast<float>(digit));
    }
    return pairs;
}

// Pair `Pair` has the digits at bits 4 * Pair and 16 more: columns order(2 * Pair) and order(2 * Pair + 1) of a cell.
struct FourBitPairs {
    static constexpr int kPairs = 4;
    Words words;
    static FourBitPairs load(const uint8_t* from) { return {Words::load(from)}; }

    template <int Pair>
    Pairs pair() const {
        return pair_of(words, 4, 4 * Pair, 4 * Pair + 16);
    }

    static void round(const float* x, uint16_t* to) {
        constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
        for (int i = 0; i < 16; i++) {
            to[i] = numbers::to_bf16(x[i / 8 * 8 + kOrder[i % 8]]);
        }
    }
};

struct EightBitPairs {
    static constexpr int kPairs = 2;
    Words words;
    static EightBitPairs load(const uint8_t* from) { return {Words::load(from)}; }

    template <int Pair>
    Pairs pair() const {
        return pair_of(words, 8, 16 * Pair, 16 * Pair + 8);
    }

    static void round(const float* x, uint16_t* to) {
        for (int i = 0; i < 16; i++) {
            to[i] = numbers::to_bf16(x[i]);
        }
    }
};

inline Pairs dense_pair(const uint8_t* from, bool both) {
    uint16_t columns[2][16] = {};
    std::memcpy(columns, from, (both ? 2 : 1) * sizeof columns[0]);
    Pairs pairs;
    for (int i = 0; i < 32; i++) {
        pairs.halves[i] = columns[i % 2][i / 2];
    }
    return pairs;
}

}  // namespace
}  // namespace glasschat::cpu
