// Random matrices as the kernels read them, and what their elements are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/packing.h"
#include "numbers.h"

namespace grid {

using glasschat::cpu::Format;

struct Shape {
    Format format;
    int group;  // 0 for floats
    int64_t rows;
    int64_t columns;
    Float scales;
    bool bias;

    std::string name() const;
};

// How the integers of a quantized matrix are drawn: all values, or the lowest and the highest alone.
enum class Integers { any, extreme };

struct Weights {
    glasschat::cpu::PackedMatrix matrix;
    std::vector<double> elements;  // [rows, columns]
    std::vector<double> sizes;     // of what is added up for each element, which may be larger than their sum
    std::vector<double> bias;      // [rows]
};

Weights weights(const Shape& shape, Random& random, Integers integers = Integers::any);

// Every format and group with shapes around the edges of tiles, cells, groups and panels.
std::vector<Shape> shapes();

}  // namespace grid
