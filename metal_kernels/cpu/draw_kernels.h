// The kernels of draw.h, in terms of Lanes. A file that defines those for an instruction set includes this one and gets
// kernels of its own: everything here has internal linkage, so that no file runs code compiled for another.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/draw.h"
#include "cpu/largest_run.h"
#include "cpu/noise_bits.h"

namespace glasschat::cpu {
namespace {

bool maxima_of_row(const float* x, int64_t width, float* maxima) {
    Lanes broken = Lanes::zero();
    for (int64_t i = 0; i < width; i += kDrawRun) {
        const int64_t left = width - i;
        *maxima++ = largest_of_run(x + i, left < kDrawRun ? left : kDrawRun, broken);
    }
    const float sum = broken.sum();
    return sum == sum;
}

double mass_of_row(const Contest& contest, int64_t width) {
    const Lanes peak = Lanes::all(contest.peak), temperature = Lanes::all(contest.draw.temperature);
    constexpr int64_t kRun = 1024;  // summed up in floats
    double mass = 0;
    for (int64_t start = 0; start < width; start += kRun) {
        const int64_t end = width - start < kRun ? width : start + kRun;
        Lanes sum = Lanes::zero();
        int64_t i = start;
        for (; i + 16 <= end; i += 16) {
            sum = sum + ((Lanes::load(contest.x + i) - peak) / temperature).exp();
        }
        if (i < end) {
            float rest[16];
            for (int64_t lane = 0; lane < 16; lane++) {
                rest[lane] = i + lane < end ? contest.relative(contest.x[i + lane]) : -__builtin_inff();
            }
            sum = sum + Lanes::load(rest).exp();
        }
        mass += sum.sum();
    }
    return mass;
}

// More than rounding takes from the sums and products below.
constexpr float kMargin = 1e-3f;

// No score of these tokens is above its bound, which costs no logarithm. Noise is -ln(E) with E = -ln(1 - u), and so at
// most -ln(u); and a float's bits, taken as an integer, are a line below its logarithm to base 2, touching it at powers
// of 2. Whether any bound is above `least`.
template <bool kNamed>
bool bounds(const Contest& contest, int64_t first, int64_t count, float least, float* bound) {
    const float peak = contest.peak, inverse = 1 / contest.draw.temperature;
    const uint32_t low = contest.draw.low, high = contest.draw.high;
    // Of 24 bits, 24 of the 151 are what they are short of a number from 0 to 1, and 127 a float's bias.
    constexpr float kLn2 = 0.693147181f, kStep = kLn2 / (1 << 23), kNone = 151 * kLn2 + kMargin;
    const float* x = contest.x + first;
    int32_t above = 0;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t id = kNamed ? contest.ids[first + i] : static_cast<uint32_t>(first + i);
        const float u = static_cast<float>(static_cast<int32_t>(noise_bits(low, high, id) >> 8));
        int32_t bits;
        std::memcpy(&bits, &u, sizeof bits);
        bound[i] = (x[i] - peak) * inverse + (kNone - static_cast<float>(bits) * kStep);
        above |= bound[i] > least;
    }
    return above != 0;
}

template <bool kNamed>
Winner compete_by(const Contest& contest, const float* maxima, int64_t first, int64_t end, Winner winner) {
    float bound[kDrawRun];
    for (int64_t start = first; start < end; start += kDrawRun) {
        if (maxima && contest.relative(maxima[start / kDrawRun]) + kMostNoise < winner.score) {
            continue;
        }
        const int64_t count = end - start < kDrawRun ? end - start : kDrawRun;
        if (!bounds<kNamed>(contest, start, count, winner.score, bound)) {
            continue;
        }
        for (int64_t i = 0; i < count; i++) {
            if (bound[i] > winner.score) {
                winner = better(contest, start + i, winner);
            }
        }
    }
    return winner;
}

Winner compete_in_row(const Contest& contest, const float* maxima, int64_t first, int64_t end, Winner winner) {
    return contest.ids ? compete_by<true>(contest, maxima, first, end, winner)
                       : compete_by<false>(contest, maxima, first, end, winner);
}

constexpr DrawKernels kDraw = {maxima_of_row, mass_of_row, compete_in_row};

}  // namespace
}  // namespace glasschat::cpu
