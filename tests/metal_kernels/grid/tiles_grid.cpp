// The kernels for AMX on a model of its registers: the same grid, on any machine.
#include <bit>
#include <cstring>

#include "cpu/features.h"
#include "grid.h"
#include "modelled.h"
#include "numbers.h"
#include "report.h"
#include "tile_model.h"
#include "weights.h"

namespace grid {

namespace {

using namespace glasschat::cpu;

// What TDPBSUD and TDPBF16PS say of one word of the left register and one of the right, all others being zero.
template <class Product>
uint32_t product(uint32_t left, uint32_t right, uint32_t sum, const Product& multiply) {
    uint32_t words[16][16] = {};
    Tiles::configure(tile_config(64));
    words[2][3] = sum;
    Tiles::load<0>(words, 64);
    std::memset(words, 0, sizeof words);
    words[2][5] = left;
    Tiles::load<left_register(0)>(words, 64);
    std::memset(words, 0, sizeof words);
    words[5][3] = right;
    Tiles::load<right_register(0)>(words, 64);
    multiply();
    Tiles::store<0>(words, 64);
    Tiles::release();
    return words[2][3];
}

void model() {
    Report report("model of tiles");
    const auto bytes = [](uint32_t left, uint32_t right, uint32_t sum) {
        return product(left, right, sum, [] { Tiles::plus_bytes<0, left_register(0), right_register(0)>(); });
    };
    const auto pairs = [](uint32_t left, uint32_t right, float sum) {
        return std::bit_cast<float>(product(left, right, std::bit_cast<uint32_t>(sum), [] {
            Tiles::plus_pairs<0, left_register(0), right_register(0)>();
        }));
    };
    report.expect("the left byte has a sign", bytes(0xff, 0xff, 0) == static_cast<uint32_t>(-255), "");
    report.expect("four products", bytes(0x01020304, 0x01010101, 7) == 17, "");
    report.expect("sums begin anew", bytes(0x7f, 0xff, 0x7fffffff) == 0x7fffffffu + 127 * 255, "");
    report.expect("two products", pairs(0x3f804000, 0x40004040, 1) == 9, "");  // 1 * 2 + 2 * 3 + 1
    report.expect("no subnormal operand", pairs(0x0001, 0x7f00, 0) == 0, "");
    report.expect("no subnormal result", pairs(0x0080, 0x3f00, 0) == 0, "");
    report.expect("no subnormal sum", pairs(0, 0, 0x1p-130f) == 0, "");
    // 2^24 + 1 - 2^24: the sum of the two products is rounded first, and the one is lost.
    report.expect("the two sums first", pairs(0x4b803f80, 0x3f803f80, -0x1p24f) == 0, "");
}

// The integers are the same, and so is all that is done with them.
void same_as_without(const Int8Kernels& tiles, const Int8Kernels& plain) {
    Report report("int8 tiles, as without");
    Random random(1);
    for (const Shape& shape : shapes()) {
        if (!shape.group) {
            continue;
        }
        const Weights drawn = weights(shape, random);
        for (const int64_t rows : {8, 17, 33}) {
            const Numbers x = random.numbers(Float::f32, rows * shape.columns);
            Numbers found(Float::f32, rows * shape.rows), wanted(Float::f32, rows * shape.rows);
            int8_matmul_by(tiles, drawn.matrix, {x.data(), found.data(), Float::f32, rows});
            int8_matmul_by(plain, drawn.matrix, {x.data(), wanted.data(), Float::f32, rows});
            report.compare(std::to_string(rows) + " rows, " + shape.name(), found.size(),
                           [&](int64_t i) { return found[i]; }, [&](int64_t i) -> Truth { return {wanted[i], 0}; });
        }
    }
}

}  // namespace

void tile_probes_grid(const char* name, const ProbeKernels& probe, const Bf16Probe& pairs) {
    Report report(name);
    for (const int64_t rounds : {1, 3, 1000}) {
        const double numbers = 4.0 * 16 * 16 * static_cast<double>(rounds);
        report.expect("bytes", probe.multiply_int8(rounds) == numbers * 64, "the sum is another");
        report.expect("pairs", pairs.multiply(rounds) == numbers * 32, "the sum is another");
    }
    // A multiplication and an addition for each product.
    report.expect("operations", probe.int8_operations == 4 * 16 * 16 * 64 * 2, "are counted wrong");
    report.expect("operations of pairs", pairs.operations == 4 * 16 * 16 * 32 * 2, "are counted wrong");
}

void tiles_grid() {
    if (level() == Level::portable) {
        model();
        tile_probes_grid("tile probes", kModelledProbe, kModelledBf16Probe);
        same_as_without(kModelledPortableInt8, kPortableInt8);
        int8_matmul_grid("int8 tiles", [](const PackedMatrix& matrix, const Activations& activations) {
            int8_matmul_by(kModelledPortableInt8, matrix, activations);
        });
        bf16_matmul_grid("bf16 tiles", [](const PackedMatrix& matrix, const Activations& activations) {
            bf16_matmul_by(kModelledPortableBf16, matrix, activations);
        });
    }
#if defined(__x86_64__)
    if (level() >= Level::avx512bf16) {
        same_as_without(kModelledAvx512Int8, kAvx512VnniInt8);
        int8_matmul_grid("int8 tiles", [](const PackedMatrix& matrix, const Activations& activations) {
            int8_matmul_by(kModelledAvx512Int8, matrix, activations);
        });
        bf16_matmul_grid("bf16 tiles", [](const PackedMatrix& matrix, const Activations& activations) {
            bf16_matmul_by(kModelledAvx512Bf16, matrix, activations);
        });
    }
#endif
}

}  // namespace grid
