#include "cpu/largest.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <vector>

#include "cpu/pool.h"

namespace glasschat::cpu {

namespace {

// An unsigned number in the same order as the float: the sign's bit is turned around, and below zero all others too.
uint32_t key(float number) {
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

constexpr int kBinBits = 12;
constexpr int kShift = 32 - kBinBits;

// One pass counts the numbers in bins of their leading bits, and a second takes those of the bins that may hold the
// largest: rarely many more than are asked for, and only they are put in order.
void largest_of_row(const float* x, int64_t width, int64_t count, uint32_t* ids) {
    std::array<uint32_t, 1 << kBinBits> bins{};
    for (int64_t i = 0; i < width; i++) {
        bins[key(x[i]) >> kShift]++;
    }
    int64_t bin = (1 << kBinBits) - 1, taken = bins[bin];
    while (taken < count) {
        taken += bins[--bin];
    }
    const uint32_t least = static_cast<uint32_t>(bin) << kShift;
    struct Candidate {
        uint32_t key, id;
    };
    static thread_local std::vector<Candidate> kept;
    kept.clear();
    kept.reserve(taken);
    for (int64_t i = 0; i < width; i++) {
        if (const uint32_t own = key(x[i]); own >= least) {
            kept.push_back({own, static_cast<uint32_t>(i)});
        }
    }
    const auto before = [](const Candidate& a, const Candidate& b) {
        return a.key != b.key ? a.key > b.key : a.id < b.id;
    };
    if (static_cast<int64_t>(kept.size()) > count) {
        std::nth_element(kept.begin(), kept.begin() + count, kept.end(), before);
    }
    std::sort(kept.begin(), kept.begin() + count, before);
    for (int64_t i = 0; i < count; i++) {
        ids[i] = kept[i].id;
    }
}

}  // namespace

void largest(const float* x, int64_t rows, int64_t width, int64_t count, uint32_t* ids) {
    parallel_for(rows, [&](int64_t row) { largest_of_row(x + row * width, width, count, ids + row * count); });
}

}  // namespace glasschat::cpu
