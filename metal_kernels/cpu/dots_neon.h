// Sixteen sums of products of bytes in four NEON registers. A file that is compiled for the dot product or for int8
// matrices gets their instructions.
#pragma once

#include "cpu/lanes_neon.h"

namespace glasschat::cpu {
namespace {

template <int Half>
inline Words nibbles(const Words& words) {
    Words halves;
    for (int i = 0; i < 4; i++) {
        const uint8x16_t bytes = vreinterpretq_u8_u32(words.quarter[i]);
        halves.quarter[i] = vreinterpretq_u32_u8(Half ? vshrq_n_u8(bytes, 4) : vandq_u8(bytes, vdupq_n_u8(15)));
    }
    return halves;
}

struct Dots {
    int32x4_t quarter[4];

    static Dots zero() {
        const int32x4_t none = vdupq_n_s32(0);
        return {none, none, none, none};
    }

    template <int Bits>
    Dots plus(const Words& words, int32_t four) const {
        const int8x16_t signs = vreinterpretq_s8_s32(vdupq_n_s32(four));
        Dots sums;
        for (int i = 0; i < 4; i++) {
            const uint8x16_t bytes = vreinterpretq_u8_u32(words.quarter[i]);
#if defined(__ARM_FEATURE_MATMUL_INT8)
            sums.quarter[i] = vusdotq_s32(quarter[i], bytes, signs);
#else
            // Four bits are the same number with a sign or without; eight are taken as two times four.
            sums.quarter[i] = quarter[i];
            if constexpr (Bits > 4) {
                const int32x4_t upper = plus_small(vdupq_n_s32(0), vshrq_n_u8(bytes, 4), signs);
                sums.quarter[i] = vaddq_s32(sums.quarter[i], vshlq_n_s32(upper, 4));
            }
            const uint8x16_t lower = Bits > 4 ? vandq_u8(bytes, vdupq_n_u8(15)) : bytes;
            sums.quarter[i] = plus_small(sums.quarter[i], lower, signs);
#endif
        }
        return sums;
    }

    Lanes floats() const {
        Lanes lanes;
        for (int i = 0; i < 4; i++) {
            lanes.quarter[i] = vcvtq_f32_s32(quarter[i]);
        }
        return lanes;
    }

   private:
    static int32x4_t plus_small(int32x4_t sums, uint8x16_t bytes, int8x16_t signs) {
        const int8x16_t weights = vreinterpretq_s8_u8(bytes);
#if defined(__ARM_FEATURE_DOTPROD)
        return vdotq_s32(sums, weights, signs);
#else
        const int16x8_t low = vmull_s8(vget_low_s8(weights), vget_low_s8(signs));
        const int16x8_t high = vmull_s8(vget_high_s8(weights), vget_high_s8(signs));
        return vaddq_s32(sums, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
    }
};

constexpr int kDotRows = 4;

}  // namespace
}  // namespace glasschat::cpu
