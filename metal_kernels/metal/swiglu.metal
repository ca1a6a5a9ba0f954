// SwiGLU's middle (Shazeer 2020): gate * sigmoid(gate) * up, both [T, I], slices of larger rows perhaps. Bound by
// memory: a thread has four neighbours.
#include "common.h"

template <typename T>
[[kernel]] void swiglu(
    device const T* gate [[buffer(0)]],
    device const T* up [[buffer(1)]],
    device T* out [[buffer(2)]],
    constant SwigluParams& p [[buffer(3)]],
    uint2 at [[thread_position_in_grid]]) {
    const int column = int(at.x) * 4;
    if (column < p.width) {
        const float4 g = load4(gate + ulong(at.y) * p.gate_stride + column);
        const float4 u = load4(up + ulong(at.y) * p.up_stride + column);
        store4(out + ulong(at.y) * p.width + column, g / (1.0f + exp(-g)) * u);
    }
}

#define SWIGLU(NAME, T) KERNEL(swiglu_##NAME, swiglu<T>)
FOR_TYPES(SWIGLU)
