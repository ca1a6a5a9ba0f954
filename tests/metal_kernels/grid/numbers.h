// Random numbers, and numbers of the three float types, by means of their own: what kernels are compared with is not
// computed by what they use.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "cpu/numbers.h"
#include "guarded.h"

namespace grid {

using glasschat::cpu::Float;

inline constexpr Float kFloats[] = {Float::f32, Float::bf16, Float::f16};
std::string name(Float type);

// Half of the distance of two neighbours at 1: what rounding to the type may change of a number.
double rounding(Float type);
// The same at the smallest numbers, which lie no nearer to each other.
double smallest(Float type);

// The nearest number of the type, of two equally near ones the even one.
double rounded(double value, Float type);

// Numbers of a type as they lie in memory.
class Numbers {
   public:
    Numbers(Float type, int64_t size) : type_(type), bytes_(size * glasschat::cpu::bytes(type)) {}

    Float type() const { return type_; }
    int64_t size() const { return bytes_.size() / glasschat::cpu::bytes(type_); }
    void* data() { return bytes_.data(); }
    const void* data() const { return bytes_.data(); }
    double operator[](int64_t i) const;
    // `value` is rounded.
    void set(int64_t i, double value);

   private:
    Float type_;
    Guarded<uint8_t> bytes_;
};

// The same numbers in every run and on every machine.
class Random {
   public:
    explicit Random(uint32_t seed) : engine_(seed) {}

    uint32_t word() { return engine_(); }
    // Bell-shaped with mean 0 and standard deviation `scale`.
    double number(double scale = 1);
    double between(double low, double high) { return low + (high - low) * (word() * 0x1p-32); }
    int64_t below(int64_t end) { return word() % end; }
    Numbers numbers(Float type, int64_t size, double scale = 1);

   private:
    std::mt19937 engine_;
};

}  // namespace grid
