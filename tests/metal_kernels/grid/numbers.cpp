#include "numbers.h"

#include <cmath>
#include <cstring>

namespace grid {

namespace {

// Bits of a number's fraction, and the exponent of the smallest normal number.
struct Shape {
    int fraction;
    int lowest;
    double largest;
};

Shape shape(Float type) {
    switch (type) {
        case Float::f32:
            return {23, -126, 0x1.fffffep127};
        case Float::bf16:
            return {7, -126, 0x1.fep127};
        default:
            return {10, -14, 65504};
    }
}

}  // namespace

std::string name(Float type) {
    return type == Float::f32 ? "f32" : type == Float::bf16 ? "bf16" : "f16";
}

double rounding(Float type) {
    return std::ldexp(0.5, -shape(type).fraction);
}

double smallest(Float type) {
    return std::ldexp(0.5, shape(type).lowest - shape(type).fraction);
}

double rounded(double value, Float type) {
    if (!std::isfinite(value) || value == 0) {
        return value;
    }
    const Shape own = shape(type);
    const int exponent = std::max(std::ilogb(value), own.lowest);
    const double nearest = std::ldexp(std::nearbyint(std::ldexp(value, own.fraction - exponent)), exponent - own.fraction);
    return std::abs(nearest) > own.largest ? std::copysign(INFINITY, value) : nearest;
}

double Numbers::operator[](int64_t i) const {
    const uint8_t* from = bytes_.data() + i * glasschat::cpu::bytes(type_);
    if (type_ == Float::f32) {
        float value;
        std::memcpy(&value, from, sizeof value);
        return value;
    }
    uint16_t bits;
    std::memcpy(&bits, from, sizeof bits);
    const Shape own = shape(type_);
    const int fields = bits & 0x7fff, fraction = fields & ((1 << own.fraction) - 1), exponent = fields >> own.fraction;
    const double sign = bits >> 15 ? -1 : 1;
    if (exponent == (1 << (15 - own.fraction)) - 1) {
        return fraction ? NAN : sign * INFINITY;
    }
    const int place = exponent ? own.lowest + exponent - 1 : own.lowest;
    return sign * std::ldexp((exponent ? 1 << own.fraction : 0) + fraction, place - own.fraction);
}

void Numbers::set(int64_t i, double value) {
    uint8_t* to = bytes_.data() + i * glasschat::cpu::bytes(type_);
    const double nearest = rounded(value, type_);
    if (type_ == Float::f32) {
        const auto single = static_cast<float>(nearest);
        std::memcpy(to, &single, sizeof single);
        return;
    }
    const Shape own = shape(type_);
    const int highest = ((1 << (15 - own.fraction)) - 1) << own.fraction;
    int bits;
    if (std::isnan(nearest)) {
        bits = highest | 1 << (own.fraction - 1);
    } else if (std::isinf(nearest)) {
        bits = highest;
    } else if (nearest == 0) {
        bits = 0;
    } else {
        // Counted in the smallest steps of its exponent, of which a normal number has one bit more.
        const int exponent = std::max(std::ilogb(nearest), own.lowest);
        const auto steps = static_cast<int>(std::ldexp(std::abs(nearest), own.fraction - exponent));
        bits = ((exponent - own.lowest) << own.fraction) + steps;
    }
    const auto stored = static_cast<uint16_t>(bits | (std::signbit(nearest) ? 0x8000 : 0));
    std::memcpy(to, &stored, sizeof stored);
}

double Random::number(double scale) {
    // The sum of twelve numbers from 0 to 1 has a variance of 1.
    double sum = -6;
    for (int i = 0; i < 12; i++) {
        sum += word() * 0x1p-32;
    }
    return sum * scale;
}

Numbers Random::numbers(Float type, int64_t size, double scale) {
    Numbers made(type, size);
    for (int64_t i = 0; i < size; i++) {
        made.set(i, number(scale));
    }
    return made;
}

}  // namespace grid
