#include "cpu/kv_store.h"

#include <cstring>

namespace glasschat::cpu {

void to_groups(const float* x, int64_t groups, int bits, uint8_t* elements, uint16_t* scales, uint16_t* biases) {
    const auto levels = static_cast<float>((1 << bits) - 1);
    for (int64_t group = 0; group < groups; group++, x += kKvGroup, elements += kKvGroup * bits / 8) {
        // Comparisons pass over a NaN; a sum never does, and zero times infinity is one.
        float low = x[0], high = x[0], poison = 0;
        for (int i = 0; i < kKvGroup; i++) {
            low = x[i] < low ? x[i] : low;
            high = x[i] > high ? x[i] : high;
            poison += x[i] * 0.0f;
        }
        biases[group] = numbers::to_f16(low + poison);
        scales[group] = numbers::to_f16((high - low) / levels);
        const float bias = numbers::from_f16(biases[group]), step = numbers::from_f16(scales[group]);
        const float inverse = step == 0 ? 0.0f : 1 / step;
        uint8_t rounded[kKvGroup];
        for (int i = 0; i < kKvGroup; i++) {
            float q = (x[i] - bias) * inverse;
            q = q > 0 ? q : 0;  // and what is not a number
            q = q < levels ? q : levels;
            // Adding 1.5 * 2^23 leaves no bit for a fraction: the float is rounded as the processor rounds, to even.
            const float shifted = q + 12582912.0f;
            uint32_t word;
            std::memcpy(&word, &shifted, sizeof word);
            rounded[i] = static_cast<uint8_t>(word);
        }
        if (bits == 8) {
            std::memcpy(elements, rounded, kKvGroup);
        } else {
            for (int i = 0; i < kKvGroup / 2; i++) {
                elements[i] = static_cast<uint8_t>(rounded[2 * i] | rounded[2 * i + 1] << 4);
            }
        }
    }
}

}  // namespace glasschat::cpu
