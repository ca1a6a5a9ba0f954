// Sixteen floats at a time in four NEON registers. Only for files that are compiled for it.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "cpu/numbers.h"
#include "cpu/series.h"

namespace glasschat::cpu {
namespace {

struct Words {
    uint32x4_t quarter[4];

    static Words load(const uint8_t* from) {
        Words words;
        for (int i = 0; i < 4; i++) {
            words.quarter[i] = vreinterpretq_u32_u8(vld1q_u8(from + 16 * i));
        }
        return words;
    }
};

struct Lanes {
    float32x4_t quarter[4];

    static Lanes zero() { return all(0.0f); }

    static Lanes all(float value) {
        const float32x4_t each = vdupq_n_f32(value);
        return {each, each, each, each};
    }

    static Lanes load(const float* from) {
        return {vld1q_f32(from), vld1q_f32(from + 4), vld1q_f32(from + 8), vld1q_f32(from + 12)};
    }

    static Lanes load_bf16(const uint16_t* from) {
        Lanes lanes;
        for (int i = 0; i < 4; i++) {
            lanes.quarter[i] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(from + 4 * i), 16));
        }
        return lanes;
    }

    static Lanes load_f16(const uint16_t* from) {
        Lanes lanes;
        for (int i = 0; i < 4; i++) {
            lanes.quarter[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from + 4 * i)));
        }
        return lanes;
    }

    static Lanes load_bytes(const uint8_t* from) {
        const uint8x16_t bytes = vld1q_u8(from);
        const uint16x8_t halves[2] = {vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes))};
        Lanes lanes;
        for (int i = 0; i < 4; i++) {
            const uint16x8_t half = halves[i / 2];
            const uint32x4_t words = i % 2 ? vmovl_u16(vget_high_u16(half)) : vmovl_u16(vget_low_u16(half));
            lanes.quarter[i] = vcvtq_f32_u32(words);
        }
        return lanes;
    }

    template <int Width, int Place>
    static Lanes field(const Words& words) {
        Lanes lanes;
        const uint32x4_t mask = vdupq_n_u32((1u << Width) - 1);
        for (int i = 0; i < 4; i++) {
            uint32x4_t shifted = words.quarter[i];
            if constexpr (Place > 0) {
                shifted = vshrq_n_u32(shifted, Width * Place);
            }
            lanes.quarter[i] = vcvtq_f32_u32(vandq_u32(shifted, mask));
        }
        return lanes;
    }

    void store(float* to) const {
        for (int i = 0; i < 4; i++) {
            vst1q_f32(to + 4 * i, quarter[i]);
        }
    }

    Lanes plus_product(const Lanes& left, const Lanes& right) const {
        Lanes sum;
        for (int i = 0; i < 4; i++) {
            sum.quarter[i] = vfmaq_f32(quarter[i], left.quarter[i], right.quarter[i]);
        }
        return sum;
    }

    Lanes operator+(const Lanes& other) const {
        Lanes sum;
        for (int i = 0; i < 4; i++) {
            sum.quarter[i] = vaddq_f32(quarter[i], other.quarter[i]);
        }
        return sum;
    }

    Lanes operator*(const Lanes& other) const {
        return each(other, [](float32x4_t a, float32x4_t b) { return vmulq_f32(a, b); });
    }

    Lanes operator-(const Lanes& other) const {
        return each(other, [](float32x4_t a, float32x4_t b) { return vsubq_f32(a, b); });
    }

    Lanes max(const Lanes& other) const {
        return each(other, [](float32x4_t a, float32x4_t b) { return vmaxq_f32(a, b); });
    }

    Lanes min(const Lanes& other) const {
        return each(other, [](float32x4_t a, float32x4_t b) { return vminq_f32(a, b); });
    }

    Lanes operator/(const Lanes& other) const {
        return each(other, [](float32x4_t a, float32x4_t b) { return vdivq_f32(a, b); });
    }

    float largest() const {
        return vmaxvq_f32(vmaxq_f32(vmaxq_f32(quarter[0], quarter[1]), vmaxq_f32(quarter[2], quarter[3])));
    }

    float sum() const {
        return vaddvq_f32(vaddq_f32(vaddq_f32(quarter[0], quarter[1]), vaddq_f32(quarter[2], quarter[3])));
    }

    Lanes exp() const {
        return each(*this, [](float32x4_t numbers, float32x4_t) { return exp_of(numbers); });
    }

    static void transpose(Lanes (&rows)[16]) {
        for (int i = 0; i < 4; i++) {
            for (int j = 0; j <= i; j++) {
                // The squares of 4 by 4 on both sides of the diagonal, each turned over, trade places.
                float32x4_t below[4], above[4];
                for (int k = 0; k < 4; k++) {
                    below[k] = rows[4 * i + k].quarter[j];
                    above[k] = rows[4 * j + k].quarter[i];
                }
                transpose_square(below);
                transpose_square(above);
                for (int k = 0; k < 4; k++) {
                    rows[4 * j + k].quarter[i] = below[k];
                    rows[4 * i + k].quarter[j] = above[k];
                }
            }
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
        for (int i = 0; i < 4; i++) {
            vst1_u16(to + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(quarter[i])));
        }
    }

   private:
    template <class Operation>
    Lanes each(const Lanes& other, Operation operation) const {
        return {operation(quarter[0], other.quarter[0]), operation(quarter[1], other.quarter[1]),
                operation(quarter[2], other.quarter[2]), operation(quarter[3], other.quarter[3])};
    }

    // e^x = 2^n * e^r with |r| <= ln(2) / 2, where eight terms of the series are exact up to rounding.
    static float32x4_t exp_of(float32x4_t numbers) {
        // Below, the power of two is no normal number any more; the result is 0 to all that is added to it.
        const float32x4_t lowest = vdupq_n_f32(-87);
        const float32x4_t x = vmaxq_f32(numbers, lowest);
        const float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
        float32x4_t r = vfmsq_n_f32(x, n, 0.693359375f);
        r = vfmsq_n_f32(r, n, -2.12194440e-4f);
        float32x4_t power = vdupq_n_f32(kExponentialStart);
        for (const float term : kExponentialSeries) {
            power = vfmaq_f32(vdupq_n_f32(term), power, r);
        }
        const int32x4_t exponent = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
        power = vmulq_f32(power, vreinterpretq_f32_s32(exponent));
        return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(power), vcltq_f32(numbers, lowest)));
    }

    static void transpose_square(float32x4_t (&rows)[4]) {
        const float32x4_t a = vtrn1q_f32(rows[0], rows[1]), b = vtrn2q_f32(rows[0], rows[1]);
        const float32x4_t c = vtrn1q_f32(rows[2], rows[3]), d = vtrn2q_f32(rows[2], rows[3]);
        const auto pair = [](float32x4_t v) { return vreinterpretq_f64_f32(v); };
        rows[0] = vreinterpretq_f32_f64(vtrn1q_f64(pair(a), pair(c)));
        rows[1] = vreinterpretq_f32_f64(vtrn1q_f64(pair(b), pair(d)));
        rows[2] = vreinterpretq_f32_f64(vtrn2q_f64(pair(a), pair(c)));
        rows[3] = vreinterpretq_f32_f64(vtrn2q_f64(pair(b), pair(d)));
    }
};

constexpr int kDecodeRows = 4;
constexpr int kPanelRows = 4;
constexpr int kPanelTiles = 1;
constexpr int kAttentionRows = 4;
constexpr int kAttentionTiles = 1;

}  // namespace
}  // namespace glasschat::cpu
