// A kernel that does as it is told: each thread reads, writes, counts or loads in cells, between barriers that all share.
#include <metal_stdlib>
using namespace metal;

enum Step : uint { accesses = 0, of_group = 1, of_simdgroup = 2 };
enum Access : uint { nothing = 0, reads = 1, writes = 2, counts = 3, loads = 4 };

kernel void obey(device const uint* steps [[buffer(0)]], device const uint* accesses_of [[buffer(1)]],
                 constant uint& count [[buffer(2)]], device uint* cells [[buffer(3)]], device uint* sink [[buffer(4)]],
                 uint i [[thread_position_in_threadgroup]], uint at [[thread_position_in_grid]],
                 uint threads [[threads_per_grid]]) {
    threadgroup uint mine[4];
    if (i < 4) {
        mine[i] = 0;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint sum = 0;
    for (uint step = 0; step < count; step++) {
        const bool device_memory = steps[step] & 4;
        switch (steps[step] & 3) {
            case of_group:
                if (device_memory) {
                    threadgroup_barrier(mem_flags::mem_device);
                } else {
                    threadgroup_barrier(mem_flags::mem_threadgroup);
                }
                break;
            case of_simdgroup:
                if (device_memory) {
                    simdgroup_barrier(mem_flags::mem_device);
                } else {
                    simdgroup_barrier(mem_flags::mem_threadgroup);
                }
                break;
            default: {
                const uint access = accesses_of[step * threads + at], cell = access >> 3;
                switch (access & 7) {
                    case reads:
                        sum += device_memory ? cells[cell] : mine[cell];
                        break;
                    case writes:
                        if (device_memory) {
                            cells[cell] = step;
                        } else {
                            mine[cell] = step;
                        }
                        break;
                    case loads:
                        if (device_memory) {
                            sum += atomic_load_explicit((device atomic_uint*)(cells + cell), memory_order_relaxed);
                        } else {
                            sum += atomic_load_explicit((threadgroup atomic_uint*)(mine + cell), memory_order_relaxed);
                        }
                        break;
                    case counts:
                        if (device_memory) {
                            atomic_fetch_add_explicit((device atomic_uint*)(cells + cell), 1u, memory_order_relaxed);
                        } else {
                            atomic_fetch_add_explicit((threadgroup atomic_uint*)(mine + cell), 1u, memory_order_relaxed);
                        }
                }
            }
        }
    }
    sink[at] = sum;
}
