// The largest of numbers that follow each other, and whether all of them are numbers. Included after a definition of
// Lanes.
#pragma once

#include <cfloat>
#include <cstdint>

namespace glasschat::cpu {
namespace {

// The largest of `count` numbers, of which those below the least finite one count as that. `broken` becomes NaN where a
// number is NaN or infinity.
inline float largest_of_run(const float* x, int64_t count, Lanes& broken) {
    const Lanes zero = Lanes::zero(), lowest = Lanes::all(-FLT_MAX);
    // Several, so that one does not wait for the other.
    Lanes best[4] = {lowest, lowest, lowest, lowest};
    const auto look = [&](const Lanes& numbers, Lanes& most) {
        const Lanes bounded = lowest.max(numbers);  // NaN, as the second, stays
        broken = broken.plus_product(bounded, zero);
        most = bounded.max(most);
    };
    int64_t i = 0;
    for (; i + 64 <= count; i += 64) {
        for (int part = 0; part < 4; part++) {
            look(Lanes::load(x + i + 16 * part), best[part]);
        }
    }
    for (; i + 16 <= count; i += 16) {
        look(Lanes::load(x + i), best[0]);
    }
    if (i < count) {
        float rest[16];
        for (int64_t lane = 0; lane < 16; lane++) {
            rest[lane] = i + lane < count ? x[i + lane] : -FLT_MAX;
        }
        look(Lanes::load(rest), best[0]);
    }
    return best[0].max(best[1]).max(best[2].max(best[3])).largest();
}

}  // namespace
}  // namespace glasschat::cpu
