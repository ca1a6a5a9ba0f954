// Products with packed matrices against sums in float64.
#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>

#include "cpu/bf16_matmul.h"
#include "cpu/int8_matmul.h"
#include "cpu/matmul.h"
#include "grid.h"
#include "report.h"
#include "weights.h"

namespace grid {

namespace {

using glasschat::cpu::Activations;
using glasschat::cpu::Multiply;
using glasschat::cpu::PackedMatrix;

constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 24, 25, 37, 60};

// Rounds a row of x in place, as a kernel is meant to.
using Round = void (*)(std::vector<double>& x, const PackedMatrix& matrix);

void as_they_are(std::vector<double>&, const PackedMatrix&) {}

void to_bf16(std::vector<double>& x, const PackedMatrix&) {
    for (double& each : x) {
        each = rounded(each, Float::bf16);
    }
}

// The largest of a group becomes 127; computed in float32, so that the same number goes to the same integer.
void to_int8(std::vector<double>& x, const PackedMatrix& matrix) {
    for (auto first = x.begin(); first != x.end(); first += matrix.group_size()) {
        const auto end = first + matrix.group_size();
        float largest = 0;
        std::for_each(first, end, [&](double each) { largest = std::max(largest, std::abs(static_cast<float>(each))); });
        const float scale = largest / 127, inverse = largest > 0 ? 127 / largest : 0;
        std::for_each(first, end, [&](double& each) {
            const double integer = std::nearbyint(static_cast<float>(each) * inverse);
            each = std::isnan(largest + each) ? NAN : integer * scale;
        });
    }
}

struct Kind {
    const char* name;
    Multiply multiply;
    Round round;
    double sums;  // what adding up n numbers in float32 costs, as a fraction of sqrt(n) times all their sizes
};

void compare(Report& report, const Kind& kind, const std::string& name, const Weights& weights, const Numbers& x) {
    const int64_t columns = weights.matrix.columns(), outputs = weights.matrix.rows(), rows = x.size() / columns;
    Numbers y(x.type(), rows * outputs);
    for (int64_t i = 0; i < y.size(); i++) {
        y.set(i, NAN);
    }
    kind.multiply(weights.matrix, {x.data(), y.data(), x.type(), rows});
    std::vector<Truth> truths;
    truths.reserve(y.size());
    for (int64_t row = 0; row < rows; row++) {
        std::vector<double> numbers(columns);
        for (int64_t column = 0; column < columns; column++) {
            numbers[column] = x[row * columns + column];
        }
        kind.round(numbers, weights.matrix);
        for (int64_t output = 0; output < outputs; output++) {
            const double* elements = weights.elements.data() + output * columns;
            const double* sizes = weights.sizes.data() + output * columns;
            double sum = weights.bias[output], size = std::abs(sum);
            for (int64_t column = 0; column < columns; column++) {
                sum += numbers[column] * elements[column];
                size += std::abs(numbers[column]) * sizes[column];
            }
            truths.push_back({sum, rounding(x.type()) * std::abs(sum) + smallest(x.type()) +
                                       kind.sums * std::sqrt(static_cast<double>(columns)) * size});
        }
    }
    report.compare(name, y.size(), [&](int64_t i) { return y[i]; }, [&](int64_t i) { return truths[i]; });
}

// Every format of a matrix times every number of rows.
void products(const Kind& kind, bool floats) {
    Report report(kind.name);
    Random random(1);
    int64_t turn = 0;
    for (const Shape& shape : shapes()) {
        if (!shape.group && !floats) {
            continue;
        }
        const Weights drawn = weights(shape, random);
        for (const int64_t rows : kRows) {
            const Float type = kFloats[turn++ % 3];
            const Numbers x = random.numbers(type, rows * shape.columns);
            compare(report, kind, std::to_string(rows) + " rows of " + name(type) + ", " + shape.name(), drawn, x);
        }
    }
}

// The largest sums that products of bytes may reach: what an instruction adds up in too few bits would overflow.
void extremes(const Kind& kind) {
    Report report(std::string(kind.name) + ", extremes");
    Random random(2);
    for (const Format format : {Format::q4, Format::q8}) {
        for (const int group : {32, 64, 128}) {
            const Shape shape{format, group, 33, 3 * group, Float::f32, false};
            const Weights drawn = weights(shape, random, Integers::extreme);
            for (const int64_t rows : {1, 5, 16, 40}) {
                Numbers x(Float::f32, rows * shape.columns);
                for (int64_t i = 0; i < x.size(); i++) {
                    x.set(i, random.below(16) ? 1 : -1);
                }
                compare(report, kind, std::to_string(rows) + " rows, " + shape.name(), drawn, x);
            }
        }
    }
}

// Zeros stay zeros, one large number among small ones is no matter, and what is no number leaves none behind in its own
// row and stays out of the others.
void oddities(const Kind& kind) {
    Report report(std::string(kind.name) + ", oddities");
    Random random(3);
    for (const int64_t rows : {3, 5, 24, 40}) {
        for (const Format format : {Format::q4, Format::q8}) {
            const Shape shape{format, 64, 33, 192, Float::f32, true};
            const Weights drawn = weights(shape, random);
            for (const double odd : {0.0, 1e30, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
                Numbers x = random.numbers(Float::f32, rows * shape.columns);
                for (int64_t column = 0; odd == 0 && column < shape.columns; column++) {
                    x.set(shape.columns + column, 0);
                }
                x.set(shape.columns + 70, odd);
                const std::string name = std::to_string(odd) + " in " + std::to_string(rows) + " rows, " + shape.name();
                if (std::isfinite(odd)) {
                    compare(report, kind, name, drawn, x);
                    continue;
                }
                Guarded<float> y(rows * shape.rows);
                kind.multiply(drawn.matrix, {x.data(), y.data(), Float::f32, rows});
                bool right = true;
                for (int64_t i = 0; i < y.size(); i++) {
                    right = right && std::isfinite(y[i]) == (i / shape.rows != 1);
                }
                report.expect(name, right, "not that row, and that row alone, is without numbers");
            }
        }
    }
}

}  // namespace

void matmul_grid() {
    const Kind exact{"matmul", glasschat::cpu::matmul, as_they_are, 0x1p-23};
    products(exact, true);
    oddities(exact);
}

void bf16_matmul_grid(const char* name, Multiply multiply) {
    const Kind bf16{name, multiply, to_bf16, 0x1p-22};
    products(bf16, true);
    oddities(bf16);
}

void int8_matmul_grid(const char* name, Multiply multiply) {
    const Kind int8{name, multiply, to_int8, 0x1p-22};
    products(int8, false);
    extremes(int8);
    oddities(int8);
    Report report(std::string(name) + ", refusals");
    Random random(4);
    const Weights floats = weights({Format::bf16, 0, 16, 8, Float::f32, false}, random);
    const Guarded<float> x(8);
    Guarded<float> y(16);
    try {
        multiply(floats.matrix, {x.data(), y.data(), Float::f32, 1});
        report.expect("a matrix of floats", false, "is multiplied");
    } catch (const std::invalid_argument&) {
        report.expect("a matrix of floats", true, "");
    }
}

}  // namespace grid
