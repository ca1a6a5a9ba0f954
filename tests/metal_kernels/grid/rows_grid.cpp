// Operations on rows against float64.
#include "cpu/rows.h"

#include <cfloat>
#include <cmath>
#include <vector>

#include "grid.h"
#include "numbers.h"
#include "report.h"

namespace grid {

namespace {

using namespace glasschat::cpu;

// A few roundings of float32, as a fraction of what they are made of.
constexpr double kFloatError = 0x1p-21;

Truth nearly(double value, Float type, double size) {
    return {value, rounding(type) * std::abs(value) + smallest(type) + kFloatError * size};
}

std::string shape(int64_t rows, int64_t width, int64_t stride, Float type) {
    return "[" + std::to_string(rows) + ", " + std::to_string(width) + "] of " + name(type) + ", " +
           std::to_string(stride) + " apart";
}

// Calls body(rows, width, stride, type) for widths around whole vectors; some rows have gaps between them.
template <class Body>
void for_shapes(const Body& body) {
    int64_t turn = 0;
    for (const int64_t width : {1, 2, 15, 16, 17, 48, 100, 896, 1001}) {
        for (const int64_t rows : {1, 3, 40}) {
            for (const Float type : kFloats) {
                body(rows, width, width + (turn % 2 ? 7 : 0), type);
                turn++;
            }
        }
    }
}

void norms() {
    Report report("rms_norm");
    Random random(1);
    int64_t turn = 0;
    for_shapes([&](int64_t rows, int64_t width, int64_t stride, Float type) {
        const bool adds = turn % 4 == 3;
        const Float weight_type = kFloats[turn++ / 2 % 3];
        stride = adds ? width : stride;
        const Numbers x = random.numbers(type, (rows - 1) * stride + width), weight = random.numbers(weight_type, width);
        const Numbers added = random.numbers(type, rows * width);
        Numbers out(type, rows * width), sum(type, rows * width);
        NormTask task{{x.data(), stride}, weight.data(), out.data(), type, weight_type, rows, width, 1e-6f};
        if (adds) {
            task.added = added.data();
            task.sum = sum.data();
        }
        rms_norm(task);
        const std::string name = shape(rows, width, stride, type) + (adds ? ", of a sum" : "");
        if (adds) {
            report.compare(name + " itself", sum.size(), [&](int64_t i) { return sum[i]; }, [&](int64_t i) {
                return nearly(x[i] + added[i], type, (std::abs(x[i]) + std::abs(added[i])) / 4);
            });
        }
        std::vector<double> scales(rows);
        const auto given = [&](int64_t row, int64_t i) { return adds ? sum[row * width + i] : x[row * stride + i]; };
        for (int64_t row = 0; row < rows; row++) {
            double squares = 0;
            for (int64_t i = 0; i < width; i++) {
                squares += given(row, i) * given(row, i);
            }
            scales[row] = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-6);
        }
        report.compare(name, out.size(), [&](int64_t i) { return out[i]; }, [&](int64_t i) {
            const double value = given(i / width, i % width) * scales[i / width] * weight[i % width];
            return nearly(value, type, std::abs(value));
        });
    });
}

void rotations() {
    Report report("rope");
    Random random(2);
    int64_t turn = 0;
    for (const int64_t size : {2, 30, 32, 34, 64, 80, 128}) {
        for (const int64_t rows : {1, 5, 40}) {
            for (const Float type : kFloats) {
                const int64_t heads = 1 + turn % 3, width = heads * size, stride = width + (turn % 2 ? 16 : 0);
                turn++;
                const float theta = turn % 2 ? 1e6f : 1e4f;
                const Numbers x = random.numbers(type, (rows - 1) * stride + width);
                Guarded<int32_t> positions(rows);
                for (int64_t row = 0; row < rows; row++) {
                    positions[row] = static_cast<int32_t>(random.below(8000));
                }
                Numbers out(type, rows * width);
                rope({{x.data(), stride}, positions.data(), out.data(), type, rows, heads, size, theta});
                const int64_t half = size / 2;
                report.compare(shape(rows, width, stride, type) + ", heads of " + std::to_string(size), out.size(),
                               [&](int64_t i) { return out[i]; }, [&](int64_t i) {
                                   const int64_t row = i / width, place = i % size, pair = place % half;
                                   const int64_t head = row * stride + i % width - place;
                                   // The angle in float32, as the models were trained.
                                   const float share = static_cast<float>(pair) / static_cast<float>(half);
                                   const float angle = static_cast<float>(positions[row]) * std::pow(theta, -share);
                                   const double cosine = std::cos(double{angle}), sine = std::sin(double{angle});
                                   const double a = x[head + pair], b = x[head + half + pair];
                                   const double value = place < half ? a * cosine - b * sine : b * cosine + a * sine;
                                   return nearly(value, type, std::abs(a) + std::abs(b));
                               });
            }
        }
    }
}

void gates() {
    Report report("silu_mul");
    Random random(3);
    for_shapes([&](int64_t rows, int64_t width, int64_t stride, Float type) {
        Numbers gate = random.numbers(type, (rows - 1) * stride + width, 3);
        const Numbers up = random.numbers(type, gate.size());
        // Where an exponential is too large or too small for float32, and what is no number.
        const double odd[] = {0, 88, -88, 104, -104, 1000, -1000, NAN};
        for (int64_t i = 0; width > 8 && i < 8; i++) {
            gate.set(i, odd[i]);
        }
        Numbers out(type, rows * width);
        silu_mul({{gate.data(), stride}, {up.data(), stride}, out.data(), type, rows, width});
        report.compare(shape(rows, width, stride, type), out.size(), [&](int64_t i) { return out[i]; }, [&](int64_t i) {
            const int64_t place = i / width * stride + i % width;
            const double value = gate[place] / (1 + std::exp(-gate[place])) * up[place];
            // Below e^-87 a power counts as zero.
            const double lost = std::exp(-87.0) * std::abs(gate[place] * up[place]);
            return Truth{value, nearly(value, type, std::abs(value)).allowed + lost};
        });
    });
}

void additions() {
    Report report("add");
    Random random(4);
    for_shapes([&](int64_t rows, int64_t width, int64_t, Float type) {
        const Numbers a = random.numbers(type, rows * width), b = random.numbers(type, rows * width);
        Numbers out(type, rows * width);
        add({a.data(), b.data(), out.data(), type, rows, width});
        report.compare(shape(rows, width, width, type), out.size(), [&](int64_t i) { return out[i]; }, [&](int64_t i) {
            return nearly(a[i] + b[i], type, (std::abs(a[i]) + std::abs(b[i])) / 4);
        });
    });
}

uint32_t first_largest(const float* x, int64_t width) {
    int64_t best = -1;
    for (int64_t i = 0; i < width; i++) {
        if (std::isnan(x[i]) || x[i] == INFINITY) {
            return static_cast<uint32_t>(width);
        }
        if (x[i] != -INFINITY && (best < 0 || x[i] > x[best])) {
            best = i;
        }
    }
    return static_cast<uint32_t>(best < 0 ? width : best);
}

void choices() {
    Report report("greedy");
    Random random(5);
    for (const int64_t width : {1, 15, 16, 17, 64, 65, 2047, 2048, 2049, 5000}) {
        for (const int64_t rows : {1, 3, 9}) {
            // Few different numbers, so that some are equally large; then one that is special; then nothing else.
            for (const float odd : {0.0f, -FLT_MAX, -INFINITY, INFINITY, NAN}) {
                for (const bool alone : {false, true}) {
                    Guarded<float> x(rows * width);
                    for (int64_t i = 0; i < x.size(); i++) {
                        x[i] = alone ? odd : static_cast<float>(random.below(8)) - 4;
                    }
                    x[random.below(x.size())] = odd;
                    Guarded<uint32_t> ids(rows);
                    greedy({x.data(), ids.data(), rows, width});
                    const std::string name = shape(rows, width, width, Float::f32) + " with " + std::to_string(odd) +
                                             (alone ? " alone" : "");
                    report.compare(name, rows, [&](int64_t i) { return ids[i]; }, [&](int64_t i) -> Truth {
                        return {static_cast<double>(first_largest(x.data() + i * width, width)), 0};
                    });
                }
            }
        }
    }
}

}  // namespace

void rows_grid() {
    norms();
    rotations();
    gates();
    additions();
    choices();
}

}  // namespace grid
