// Sixteen floats at a time in plain C++: what every processor can do, and what the other versions are read against.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/numbers.h"

namespace glasschat::cpu {
namespace {

// Sixteen words of 32 bits: one cell of a packed tile.
struct Words {
    uint32_t lane[16];

    static Words load(const uint8_t* from) {
        Words words;
        std::memcpy(words.lane, from, sizeof words.lane);
        return words;
    }
};

struct Lanes {
    float lane[16];

    static Lanes zero() { return Lanes{}; }

    static Lanes all(float value) {
        Lanes lanes;
        for (float& lane : lanes.lane) {
            lane = value;
        }
        return lanes;
    }

    static Lanes load(const float* from) {
        Lanes lanes;
        std::memcpy(lanes.lane, from, sizeof lanes.lane);
        return lanes;
    }

    static Lanes load_bf16(const uint16_t* from) {
        Lanes lanes;
        for (int i = 0; i < 16; i++) {
            lanes.lane[i] = numbers::from_bf16(from[i]);
        }
        return lanes;
    }

    static Lanes load_f16(const uint16_t* from) {
        Lanes lanes;
        for (int i = 0; i < 16; i++) {
            lanes.lane[i] = numbers::from_f16(from[i]);
        }
        return lanes;
    }

    static Lanes load_bytes(const uint8_t* from) {
        Lanes lanes;
        for (int i = 0; i < 16; i++) {
            lanes.lane[i] = from[i];
        }
        return lanes;
    }

    // The number that `Width` bits of every word spell, beginning at bit `Width * Place`.
    template <int Width, int Place>
    static Lanes field(const Words& words) {
        Lanes lanes;
        for (int i = 0; i < 16; i++) {
            lanes.lane[i] = static_cast<float>((words.lane[i] >> (Width * Place)) & ((1u << Width) - 1));
        }
        return lanes;
    }

    void store(float* to) const { std::memcpy(to, lane, sizeof lane); }

    // this + left * right
    Lanes plus_product(const Lanes& left, const Lanes& right) const {
        Lanes sum;
        for (int i = 0; i < 16; i++) {
            sum.lane[i] = lane[i] + left.lane[i] * right.lane[i];
        }
        return sum;
    }

    Lanes operator+(const Lanes& other) const {
        Lanes sum;
        for (int i = 0; i < 16; i++) {
            sum.lane[i] = lane[i] + other.lane[i];
        }
        return sum;
    }

    Lanes operator*(const Lanes& other) const {
        Lanes product;
        for (int i = 0; i < 16; i++) {
            product.lane[i] = lane[i] * other.lane[i];
        }
        return product;
    }

    Lanes operator-(const Lanes& other) const {
        Lanes difference;
        for (int i = 0; i < 16; i++) {
            difference.lane[i] = lane[i] - other.lane[i];
        }
        return difference;
    }

    // Where either is no number, max and min give `other`.
    Lanes max(const Lanes& other) const {
        Lanes larger;
        for (int i = 0; i < 16; i++) {
            larger.lane[i] = lane[i] > other.lane[i] ? lane[i] : other.lane[i];
        }
        return larger;
    }

    Lanes min(const Lanes& other) const {
        Lanes smaller;
        for (int i = 0; i < 16; i++) {
            smaller.lane[i] = lane[i] < other.lane[i] ? lane[i] : other.lane[i];
        }
        return smaller;
    }

    Lanes operator/(const Lanes& other) const {
        Lanes quotient;
        for (int i = 0; i < 16; i++) {
            quotient.lane[i] = lane[i] / other.lane[i];
        }
        return quotient;
    }

    // Of numbers up to 0; minus infinity gives 0.
    Lanes exp() const {
        Lanes powers;
        for (int i = 0; i < 16; i++) {
            powers.lane[i] = std::exp(lane[i]);
        }
        return powers;
    }

    float largest() const {
        float largest = lane[0];
        for (int i = 1; i < 16; i++) {
            largest = lane[i] > largest ? lane[i] : largest;
        }
        return largest;
    }

    float sum() const {
        float sum = 0;
        for (const float each : lane) {
            sum += each;
        }
        return sum;
    }

    // Sixteen vectors as the rows of a matrix: turns it over.
    static void transpose(Lanes (&rows)[16]) {
        for (int i = 0; i < 16; i++) {
            for (int j = 0; j < i; j++) {
                const float kept = rows[i].lane[j];
                rows[i].lane[j] = rows[j].lane[i];
                rows[j].lane[i] = kept;
            }
        }
    }

    void store_bf16(uint16_t* to) const {
        for (int i = 0; i < 16; i++) {
            to[i] = numbers::to_bf16(lane[i]);
        }
    }

    void store_f16(uint16_t* to) const {
        for (int i = 0; i < 16; i++) {
            to[i] = numbers::to_f16(lane[i]);
        }
    }
};

// How many rows of activations, and tiles of a matrix, fit the registers.
constexpr int kDecodeRows = 4;
constexpr int kPanelRows = 4;
constexpr int kPanelTiles = 1;
constexpr int kAttentionRows = 4;
constexpr int kAttentionTiles = 1;

}  // namespace
}  // namespace glasschat::cpu
