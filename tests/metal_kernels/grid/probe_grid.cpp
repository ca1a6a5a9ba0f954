// The probes' loops: that they compute what they claim to, for then they do the work that they are timed by.
#include "cpu/probe.h"

#include <cmath>

#include "cpu/dispatch.h"
#include "grid.h"
#include "numbers.h"
#include "report.h"

namespace grid {

namespace {

using namespace glasschat::cpu;

constexpr int kChains = 12;

bool tiles_in_force() {
#if defined(__x86_64__)
    return level() >= Level::amx;
#else
    return false;
#endif
}

// Chain i begins at `first(i)` in each of 16 lanes, and each round adds `step`.
Truth chains(int64_t rounds, double first, double later, double step) {
    const double sum = 16 * (kChains * (first + rounds * step) + later * kChains * (kChains - 1) / 2);
    return {sum, 0x1p-24 * static_cast<double>(rounds + 64) * std::abs(sum)};
}

}  // namespace

void probe_grid() {
    Report report("probes");
    const ProbeKernels& probe = GLASSCHAT_DOTS_IN_FORCE(Probe);
    for (const int64_t rounds : {1, 7, 1000}) {
        const std::string name = std::to_string(rounds) + " rounds";
        report.compare(name + " of floats", 1, [&](int64_t) { return probe.multiply(rounds); },
                       [&](int64_t) { return chains(rounds, 1, 0.1, double{0.999999f} * 1e-6f); });
        if (tiles_in_force()) {
            continue;  // bytes are multiplied in another way
        }
        report.compare(name + " of bytes", 1, [&](int64_t) { return probe.multiply_int8(rounds); }, [&](int64_t) {
            // 64 bytes 1, 2, ... 15, 0, 1, ... in sixteen lanes of four, by the signed bytes of a number that grows.
            const auto dots = [](int32_t four) {
                double sum = 0;
                for (int i = 0; i < 64; i++) {
                    sum += (1 + i) % 16 * static_cast<int8_t>(four >> (8 * (i % 4)));
                }
                return sum;
            };
            double sum = 0;
            for (int chain = 0; chain < kChains; chain++) {
                sum += dots(1 + chain);
                for (int64_t round = 0; round < rounds; round++) {
                    sum += dots(static_cast<int32_t>(1 + round));
                }
            }
            return Truth{sum, 0x1p-22 * std::abs(sum) + 16};
        });
    }
#if defined(__x86_64__)
    if (tiles_in_force()) {
        tile_probes_grid("probes of tiles", kAmxProbe, kAmxBf16Probe);
    }
    if (level() >= Level::avx512bf16) {
        for (const int64_t rounds : {1, 100}) {
            report.compare(std::to_string(rounds) + " rounds of bfloat16", 1,
                           [&](int64_t) { return kAvx512Bf16Probe.multiply(rounds); },
                           [&](int64_t) { return chains(rounds, 0, 0.1, 2); });
        }
    }
#endif
    for (const int64_t size : {0, 255, 256, 4096}) {
        Guarded<float> x((size + 3) / 4);
        double sum = 0;
        for (int64_t i = 0; i < x.size(); i++) {
            x[i] = static_cast<float>(i % 7 + 1);
            sum += 4 * (i + 1) <= size / 256 * 256 ? x[i] : 0;  // in steps of 256 bytes
        }
        const auto* from = reinterpret_cast<const uint8_t*>(x.data());
        report.compare("reading " + std::to_string(size) + " bytes", 1, [&](int64_t) { return probe.read(from, size); },
                       [&](int64_t) -> Truth { return {sum, 0x1p-20 * sum}; });
    }
}

}  // namespace grid
