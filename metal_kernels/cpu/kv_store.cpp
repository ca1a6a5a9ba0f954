#include "cpu/kv_store.h"

#include <cstring>

#include "cpu/attention.h"
#include "cpu/scratch.h"

namespace glasschat::cpu {

namespace {

void write_token(const uint8_t* row, Float type, const KvRoom& room, int64_t slot) {
    const int64_t to = slot * room.width;
    if (room.bits == 0 && room.type == type) {
        std::memcpy(room.elements + to * bytes(type), row, room.width * bytes(type));
        return;
    }
    if (room.bits == 0) {
        for (int64_t i = 0; i < room.width; i++) {
            numbers::store(room.elements, room.type, to + i, numbers::load(row, type, i));
        }
        return;
    }
    static thread_local Scratch<float> floats;
    const float* x = reinterpret_cast<const float*>(row);
    if (type != Float::f32) {
        float* wide = scratch(floats, room.width);
        for (int64_t i = 0; i < room.width; i++) {
            wide[i] = numbers::load(row, type, i);
        }
        x = wide;
    }
    const int64_t groups = room.width / kKvGroup;
    to_groups(x, groups, room.bits, room.elements + to * room.bits / 8, room.scales + slot * groups,
              room.biases + slot * groups);
}

}  // namespace

void write_kv(const Layout& layout, const void* rows, int64_t stride, Float type, const KvRoom& room) {
    const auto* row = static_cast<const uint8_t*>(rows);
    for (int64_t sequence = 0; sequence < layout.sequences(); sequence++) {
        const int64_t end = layout.context_len(sequence);
        for (int64_t position = end - layout.query_len(sequence); position < end; position++) {
            write_token(row, type, room, layout.slot(sequence, position));
            row += stride * bytes(type);
        }
    }
}

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
