// The three float types of a checkpoint, and their conversion one number at a time.
#pragma once

#include <bit>
#include <cstdint>

namespace glasschat::cpu {

enum class Float { f32, bf16, f16 };

inline int bytes(Float type) {
    return type == Float::f32 ? 4 : 2;
}

namespace numbers {

// Static, so that a file compiled for a newer processor never lends its copy to the others.
static inline float from_bf16(uint16_t bits) {
    return std::bit_cast<float>(uint32_t{bits} << 16);
}

static inline uint16_t to_bf16(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    if (value != value) {
        return static_cast<uint16_t>((bits >> 16) | 0x40);  // stays a NaN even if only low bits said so
    }
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline float from_f16(uint16_t half) {
    const uint32_t sign = uint32_t{half & 0x8000u} << 16;
    const uint32_t exponent = (half >> 10) & 0x1f;
    const uint32_t fraction = half & 0x3ffu;
    if (exponent == 0x1f) {
        return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
    }
    if (exponent == 0) {
        const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // zero and subnormals
        return sign ? -magnitude : magnitude;
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

static inline uint16_t to_f16(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return static_cast<uint16_t>(sign | 0x7e00u);
    }
    if (magnitude >= 0x477ff000u) {
        return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
    }
    if (magnitude < 0x38800000u) {
        // Adding 0.5 puts the number's last subnormal bit at the end of the fraction, and rounds there.
        const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
        return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
    }
    const uint32_t odd = (magnitude >> 13) & 1;
    return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfff + odd) >> 13));
}

static inline float load(const void* numbers, Float type, int64_t index) {
    switch (type) {
        case Float::f32:
            return static_cast<const float*>(numbers)[index];
        case Float::bf16:
            return from_bf16(static_cast<const uint16_t*>(numbers)[index]);
        default:
            return from_f16(static_cast<const uint16_t*>(numbers)[index]);
    }
}

static inline void store(void* numbers, Float type, int64_t index, float value) {
    switch (type) {
        case Float::f32:
            static_cast<float*>(numbers)[index] = value;
            break;
        case Float::bf16:
            static_cast<uint16_t*>(numbers)[index] = to_bf16(value);
            break;
        default:
            static_cast<uint16_t*>(numbers)[index] = to_f16(value);
    }
}

}  // namespace numbers
}  // namespace glasschat::cpu
