// How keys and values are kept in the cache: as floats, or as integers of 8 or 4 bits in groups along a head.
#pragma once

#include <cstdint>

#include "cpu/numbers.h"

namespace glasschat::cpu {

// Neighbouring elements that share a scale and a bias, both float16: an element is q * scale + bias.
inline constexpr int64_t kKvGroup = 32;

// One layer's keys, or its values. `bits` is 0 for floats of `type`; integers stand lowest bits first, without gaps.
struct KvStore {
    const void* elements;
    Float type = Float::f32;
    int bits = 0;
    const uint16_t* scales = nullptr;
    const uint16_t* biases = nullptr;
};

// Where keys or values are written: a store that is not const, for tokens of `width` numbers.
struct KvRoom {
    uint8_t* elements;
    Float type;
    int bits;
    uint16_t* scales;
    uint16_t* biases;
    int64_t width;
};

class Layout;

// Puts rows [T, width] of `type`, `stride` numbers apart, into the slots of a step's tokens; each number is rounded once.
void write_kv(const Layout& layout, const void* rows, int64_t stride, Float type, const KvRoom& room);

// Rounds `groups` groups of x. A group's smallest element becomes 0 and its largest the highest integer, up to the
// rounding of scale and bias; what is not a number makes its whole group so.
void to_groups(const float* x, int64_t groups, int bits, uint8_t* elements, uint16_t* scales, uint16_t* biases);

}  // namespace glasschat::cpu
