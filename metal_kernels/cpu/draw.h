// Drawing one token from each row of logits, cut down by min-p, top-k and top-p, without sorting the row and without
// computing the noise of more than a few of its tokens.
#pragma once

#include <cstdint>

namespace glasschat::cpu {

// How one row is drawn from; see the operation's reference.
struct Draw {
    float temperature;
    float floor;    // the least logit that min-p keeps, relative to the largest and over the temperature
    int64_t top_k;  // 0: all
    float top_p;
    uint32_t low;  // the halves of the key that the noise of each token is made from
    uint32_t high;
};

// ids[r] of the token that is drawn from x[r], [rows, width] without gaps; where its largest is not finite, or a number
// in it is none at all, `width`.
struct DrawTask {
    const float* x;
    uint32_t* ids;
    int64_t rows;
    int64_t width;
    const Draw* draws;
};

// Uses the pool.
void draw(const DrawTask& task);

// Tokens that compete for being drawn: the largest sum of logit and noise wins, the lower id among equals. `ids` say
// which tokens the logits are of; without them, they are those of the whole row.
struct Contest {
    const float* x;
    const uint32_t* ids;
    float peak;
    Draw draw;

    // To the largest, so that nothing overflows however cold it gets.
    float relative(float logit) const { return (logit - peak) / draw.temperature; }
};

struct Winner {
    float score;
    uint32_t id;
};

// The winner of the contest's token number i and of another, with the very operations of the reference.
Winner better(const Contest& contest, int64_t i, Winner other);

// Numbers whose largest is kept, so that they need not be looked at one by one where it is too low.
inline constexpr int64_t kDrawRun = 64;

// No noise is larger; see `gumbel` of the operations.
inline constexpr float kMostNoise = 23;

// The kernels of one instruction set.
struct DrawKernels {
    // The largest of each kDrawRun numbers of a row; false where a number is NaN or infinity. Those below the least
    // finite one count as that.
    bool (*maxima)(const float* x, int64_t width, float* maxima);
    // The sum of e^relative over a row.
    double (*mass)(const Contest& contest, int64_t width);
    // Numbers first to end of a contest against the winner so far. `maxima` are the row's, if it is a whole one; then
    // `first` stands at the beginning of a run.
    Winner (*compete)(const Contest& contest, const float* maxima, int64_t first, int64_t end, Winner winner);
};

extern const DrawKernels kPortableDraw;
extern const DrawKernels kAvx2Draw;
extern const DrawKernels kAvx512Draw;
extern const DrawKernels kNeonDraw;

}  // namespace glasschat::cpu
