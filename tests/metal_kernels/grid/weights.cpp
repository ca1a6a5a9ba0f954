#include "weights.h"

#include <cmath>

namespace grid {

namespace {

struct Drawn {
    Guarded<uint8_t> words;
    std::vector<int> integers;
};

// Random integers as a checkpoint has them: lowest bits first, row after row.
Drawn draw(const Shape& shape, Random& random, Integers integers) {
    const int bits = glasschat::cpu::bits(shape.format), highest = (1 << bits) - 1;
    const int64_t count = shape.rows * shape.columns;
    Drawn drawn{Guarded<uint8_t>(count * bits / 8), std::vector<int>(count)};
    for (int64_t i = 0; i < count; i++) {
        const int value = integers == Integers::any ? static_cast<int>(random.below(highest + 1))
                                                    : static_cast<int>(random.below(8) ? highest : 0);
        drawn.integers[i] = value;
        drawn.words[i * bits / 8] |= value << (i * bits % 8);
    }
    return drawn;
}

Float float_type(Format format) {
    return format == Format::f32 ? Float::f32 : format == Format::bf16 ? Float::bf16 : Float::f16;
}

}  // namespace

std::string Shape::name() const {
    const char* const formats[] = {"4 bit", "8 bit", "f32", "bf16", "f16"};
    std::string made = formats[static_cast<int>(format)];
    if (group) {
        made += " in groups of " + std::to_string(group) + " with scales of " + grid::name(scales);
    }
    return made + " [" + std::to_string(rows) + ", " + std::to_string(columns) + "]" + (bias ? " with a bias" : "");
}

Weights weights(const Shape& shape, Random& random, Integers integers) {
    const int64_t count = shape.rows * shape.columns;
    std::vector<double> elements(count), sizes(count), bias(shape.rows);
    const Numbers bias_numbers = random.numbers(shape.scales, shape.rows);
    for (int64_t row = 0; shape.bias && row < shape.rows; row++) {
        bias[row] = bias_numbers[row];
    }
    const void* layer_bias = shape.bias ? bias_numbers.data() : nullptr;
    const double scale = 1 / std::sqrt(static_cast<double>(shape.columns));
    if (!shape.group) {
        const Numbers numbers = random.numbers(float_type(shape.format), count, scale);
        for (int64_t i = 0; i < count; i++) {
            elements[i] = numbers[i];
            sizes[i] = std::abs(numbers[i]);
        }
        return {{{shape.format, shape.rows, shape.columns, numbers.data()}, layer_bias, shape.scales},
                std::move(elements), std::move(sizes), std::move(bias)};
    }
    const int64_t groups = shape.columns / shape.group;
    const double step = scale / (1 << glasschat::cpu::bits(shape.format));
    Numbers scales(shape.scales, shape.rows * groups), biases(shape.scales, shape.rows * groups);
    for (int64_t i = 0; i < scales.size(); i++) {
        scales.set(i, random.between(2, 4) * step * (random.below(4) ? 1 : -1));
        biases.set(i, random.number(scale));
    }
    const Drawn drawn = draw(shape, random, integers);
    for (int64_t i = 0; i < count; i++) {
        const int64_t group = i / shape.columns * groups + i % shape.columns / shape.group;
        const double part = drawn.integers[i] * scales[group];
        elements[i] = part + biases[group];
        sizes[i] = std::abs(part) + std::abs(biases[group]);
    }
    return {{{shape.format, shape.rows, shape.columns, drawn.words.data(), shape.group, shape.scales, scales.data(),
              biases.data()},
             layer_bias, shape.scales},
            std::move(elements), std::move(sizes), std::move(bias)};
}

std::vector<Shape> shapes() {
    constexpr int64_t kRows[] = {1, 15, 16, 17, 33, 80};
    constexpr int64_t kColumns[] = {1, 3, 4, 31, 64, 127, 1023, 1027};
    constexpr int64_t kGroups[] = {1, 3, 9};
    std::vector<Shape> made;
    int64_t turn = 0;
    for (const int64_t rows : kRows) {
        for (const Format format : {Format::q4, Format::q8}) {
            for (const int group : {8, 24, 32, 64, 128}) {
                const Float scales = kFloats[turn % 3];
                made.push_back({format, group, rows, group * kGroups[turn / 3 % 3], scales, turn % 2 == 0});
                turn++;
            }
        }
        for (const Format format : {Format::f32, Format::bf16, Format::f16}) {
            for (int i = 0; i < 2; i++, turn++) {
                made.push_back({format, 0, rows, kColumns[turn * 3 % 8], Float::f32, turn % 2 == 0});
            }
        }
    }
    return made;
}

}  // namespace grid
