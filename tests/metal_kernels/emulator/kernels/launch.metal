// Kernels that show what they are given.
#include <metal_stdlib>
using namespace metal;
kernel void add(device const float* x [[buffer(0)]], device float* out [[buffer(2)]], constant float& a [[buffer(5)]],
                uint i [[thread_position_in_grid]]) {
    if (i % 4 != 3) {
        out[i] = x[i] + a;
    }
}
kernel void unnamed(device const bfloat* x, device bfloat* out, constant int2& n,
                    uint i [[thread_position_in_grid]]) {
    out[i] = bfloat(float(x[i]) * float(n.x) + float(n.y));
}
constant float factor [[function_constant(3)]];
[[kernel, max_total_threads_per_threadgroup(32)]] void few(device float* out, threadgroup float* t [[threadgroup(1)]],
                                                          uint i [[thread_position_in_grid]]) {
    t[0] = 0.0f;
    out[i] = factor;
}
struct Where {
    uint3 grid, group;
};
kernel void where(device uint* out [[buffer(0)]], uint3 at [[thread_position_in_grid]],
                  uint3 group [[threadgroup_position_in_grid]], ushort3 inside [[thread_position_in_threadgroup]],
                  uint3 size [[threads_per_threadgroup]], uint3 full [[dispatch_threads_per_threadgroup]],
                  uint3 grid [[threads_per_grid]], uint3 groups [[threadgroups_per_grid]],
                  uint index [[thread_index_in_threadgroup]], ushort lane [[thread_index_in_simdgroup]],
                  uint sg [[simdgroup_index_in_threadgroup]], uint sgs [[simdgroups_per_threadgroup]],
                  uint width [[threads_per_simdgroup]]) {
    device uint* mine = out + 26 * (at.x + grid.x * (at.y + grid.y * at.z));
    mine[0] = at.x, mine[1] = at.y, mine[2] = at.z;
    mine[3] = group.x, mine[4] = group.y, mine[5] = group.z;
    mine[6] = inside.x, mine[7] = inside.y, mine[8] = inside.z;
    mine[9] = size.x, mine[10] = size.y, mine[11] = size.z;
    mine[12] = full.x, mine[13] = full.y, mine[14] = full.z;
    mine[15] = grid.x, mine[16] = grid.y, mine[17] = grid.z;
    mine[18] = groups.x, mine[19] = groups.y, mine[20] = groups.z;
    mine[21] = index, mine[22] = lane, mine[23] = sg, mine[24] = sgs, mine[25] = width;
}
