// Turns heads [T, H, D] by their token's position: elements i and i + D / 2 are a point, turned by position / theta^(2i
// / D) (Su et al. 2021, in GPT-NeoX's pairing). Tokens stand anywhere: each has its position. Bound by memory: a thread
// computes an angle once for up to four heads, and lanes are neighbours along a head.
#include "common.h"

constant constexpr int kHeads = 4;  // of a thread

template <typename T>
[[kernel]] void rope(
    device const T* x [[buffer(0)]],
    device const int* positions [[buffer(1)]],
    device T* out [[buffer(2)]],
    constant RopeParams& p [[buffer(3)]],
    uint3 at [[thread_position_in_grid]]) {
    const int half_size = p.size / 2, pair = int(at.x), token = int(at.z);
    const float frequency = precise::exp2(-p.log2_theta * float(pair) / float(half_size));
    const float angle = float(positions[token]) * frequency;
    const float c = precise::cos(angle), s = precise::sin(angle);  // angles go up to the position itself
    const int first = int(at.y) * kHeads;
    for (int head = first; head < min(first + kHeads, p.heads); head++) {
        device const T* from = x + ulong(token) * p.stride + head * p.size + pair;
        device T* to = out + (ulong(token) * p.heads + head) * p.size + pair;
        const float a = float(from[0]), b = float(from[half_size]);
        to[0] = T(a * c - b * s);
        to[half_size] = T(b * c + a * s);
    }
}

#define ROPE(NAME, T) KERNEL(rope_##NAME, rope<T>)
FOR_TYPES(ROPE)
