// The end of a matrix multiplication whose columns were shared out (split-K): partial sums are added up in the order of
// their splits, so that a result is the same bits every time. Bound by memory; a thread adds up one number.
#include "common.h"

constant bool kBias [[function_constant(1)]];

template <typename T>
[[kernel]] void split_sum(
    device const float* partial [[buffer(0)]],
    device const T* bias [[buffer(1)]],
    device T* y [[buffer(2)]],
    constant SplitSumParams& p [[buffer(3)]],
    uint2 at [[thread_position_in_grid]]) {
    if (int(at.x) >= p.outputs) {
        return;
    }
    const ulong place = ulong(at.y) * p.outputs + at.x;
    float sum = 0;
    for (int split = 0; split < p.splits; split++) {
        sum += partial[ulong(split) * p.rows * p.outputs + place];
    }
    y[place] = T(kBias ? sum + float(bias[at.x]) : sum);
}

#define SPLIT_SUM(NAME, T) KERNEL(split_sum_##NAME, split_sum<T>)
FOR_TYPES(SPLIT_SUM)
