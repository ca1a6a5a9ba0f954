// Functions of kernels that live in a header: reports name its lines.
#pragma once
#include <metal_stdlib>
using namespace metal;

inline float previous(device const float* values, uint i) {
    return values[int(i) - 1];  // <- previous_of_first: out-of-bounds
}

inline float total(threadgroup const float* values, uint count) {
    float sum = 0.0f;
    for (uint i = 0; i < count; i++) {
        sum += values[i];  // <- sum_without_barrier: race, uninitialised
    }
    return sum;
}
