// Sixteen sums of products of bytes in plain C++, and what the other versions are read against.
#pragma once

#include "cpu/lanes_portable.h"

namespace glasschat::cpu {
namespace {

// Of each word's four bytes the low (Half 0) or the high (Half 1) four bits.
template <int Half>
inline Words nibbles(const Words& words) {
    Words halves;
    for (int i = 0; i < 16; i++) {
        halves.lane[i] = words.lane[i] >> (4 * Half) & 0x0f0f0f0f;
    }
    return halves;
}

struct Dots {
    int32_t lane[16];

    static Dots zero() { return Dots{}; }

    // Adds to each lane the products of its four unsigned bytes, of which `Bits` bits are in use, with the same four
    // signed ones: byte i of `four` belongs to byte i of the lane.
    template <int Bits>
    Dots plus(const Words& bytes, int32_t four) const {
        Dots sums = *this;
        for (int i = 0; i < 16; i++) {
            for (int byte = 0; byte < 4; byte++) {
                const int weight = bytes.lane[i] >> (8 * byte) & 0xff;
                sums.lane[i] += weight * static_cast<int8_t>(static_cast<uint32_t>(four) >> (8 * byte));
            }
        }
        return sums;
    }

    Lanes floats() const {
        Lanes lanes;
        for (int i = 0; i < 16; i++) {
            lanes.lane[i] = static_cast<float>(lane[i]);
        }
        return lanes;
    }
};

constexpr int kDotRows = 4;

}  // namespace
}  // namespace glasschat::cpu
