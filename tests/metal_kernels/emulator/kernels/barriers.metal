// A kernel with barriers that are needed and one that is not, for the mutation test.
#include <metal_stdlib>
using namespace metal;

// The largest of each 64 values, and how far each is below it.
kernel void below_largest(device const float* x [[buffer(0)]], device float* out [[buffer(1)]],
                          uint i [[thread_position_in_threadgroup]], uint group [[threadgroup_position_in_grid]],
                          uint lane [[thread_index_in_simdgroup]], uint sg [[simdgroup_index_in_threadgroup]]) {
    threadgroup float tile[64];
    threadgroup float largest[2];
    tile[i] = x[group * 64 + i];
    simdgroup_barrier(mem_flags::mem_threadgroup);
    const float mine = max(tile[i], tile[i ^ 1]);
    threadgroup_barrier(mem_flags::mem_none);  // not needed
    const float best = simd_max(mine);
    if (lane == 0) {
        largest[sg] = best;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    tile[i] = max(largest[0], largest[1]) - tile[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[group * 64 + i] = tile[63 - i];
}
