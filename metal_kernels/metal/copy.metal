// Memory as it is, 8 bytes to a thread. Bound by memory.
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
