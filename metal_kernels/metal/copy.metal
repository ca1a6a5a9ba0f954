// Memory as it is, 8 bytes to a thread; and an array with gaps to memory without, an element to a thread, where a
// kernel can't read it as it lies. Bound by memory.
#include "common.h"

[[kernel]] void copy_bytes(
    device const uint2* from [[buffer(0)]],
    device uint2* to [[buffer(1)]],
    constant CopyParams& p [[buffer(2)]],
    uint at [[thread_position_in_grid]]) {
    if (at < uint(p.eights)) {
        to[at] = from[at];
    }
}

template <typename T>
[[kernel]] void gather(
    device const T* from [[buffer(0)]],
    device T* to [[buffer(1)]],
    constant GatherParams& p [[buffer(2)]],
    uint at [[thread_position_in_grid]]) {
    int rest = int(at), place = p.first;
    for (int axis = 3; axis >= 0; axis--) {
        place += rest % p.shape[axis] * p.strides[axis];
        rest /= p.shape[axis];
    }
    if (rest == 0) {
        to[at] = from[place];
    }
}

KERNEL(gather_2, gather<ushort>)
KERNEL(gather_4, gather<uint>)
