// Kernels that are wrong, each in one way. The line that is to be reported carries the name of the kernel, as in the
// header, or just the kind.
#include <metal_stdlib>
#include "helpers.h"
using namespace metal;

kernel void one_too_many(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    out[i] = 1.0f;  // <- out-of-bounds
}

kernel void previous_of_first(device const float* x [[buffer(0)]], device float* out [[buffer(1)]],
                              uint i [[thread_position_in_grid]]) {
    out[i] = previous(x, i);
}

kernel void index_past_array(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    threadgroup float tile[64];
    tile[i + 1] = float(i);  // <- out-of-bounds
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = tile[i];
}

// Far beyond its own buffer there is another one, and beyond its own array another variable.
kernel void wrong_stride(device const float* x [[buffer(0)]], device const float* other [[buffer(1)]],
                         device float* out [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    out[i] = other[i] + x[i * 4096];  // <- out-of-bounds
}

kernel void into_the_next_array(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    threadgroup float few[64];
    threadgroup float many[4096];
    threadgroup float* row = few;
    many[i] = 0.0f;
    if (i < 8) {
        row[i * 320] = 1.0f;  // <- out-of-bounds
    }
    out[i] = many[i];
}

kernel void past_argument(device float* out [[buffer(0)]], threadgroup float* scratch [[threadgroup(0)]],
                          uint i [[thread_position_in_threadgroup]]) {
    scratch[i] = float(i);  // <- out-of-bounds
    out[i] = scratch[i];
}

kernel void past_private_array(device const float* x [[buffer(0)]], device float* out [[buffer(1)]],
                               uint i [[thread_position_in_grid]]) {
    float last[4];
    for (int k = 0; k < 4; k++) {
        last[k] = x[4 * i + k];
    }
    out[i] = last[int(x[0]) + 4];  // <- out-of-bounds
}

kernel void matrix_past_end(device const float* x [[buffer(0)]], device float* out [[buffer(1)]]) {
    simdgroup_matrix<float, 8, 8> m;
    simdgroup_load(m, x + 4, 8);  // <- out-of-bounds
    simdgroup_store(m, out, 8);
}

kernel void atomic_past_end(device atomic_uint* counts [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    atomic_fetch_add_explicit(&counts[i / 8], 1u, memory_order_relaxed);  // <- out-of-bounds
}

kernel void into_input(device float* x [[buffer(0)]], device float* out [[buffer(1)]],
                       uint i [[thread_position_in_grid]]) {
    out[i] = 2.0f;
    x[i] = 2.0f;  // <- write-to-input
}

kernel void atomic_into_input(device atomic_uint* x [[buffer(0)]], device float* out [[buffer(1)]],
                              uint i [[thread_position_in_grid]]) {
    out[i] = 2.0f;
    atomic_fetch_add_explicit(x, 1u, memory_order_relaxed);  // <- write-to-input
}

kernel void last_row_left_out(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {  // <- never-written
    if (i < 63) {
        out[i] = 1.0f;
    }
}

kernel void sum_without_barrier(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    threadgroup float tile[64];
    tile[i] = float(i);  // <- race
    out[i] = total(tile, 64);
}

// The first barrier is there; the one before the tile is written again is not.
kernel void next_tile_too_early(device const float* x [[buffer(0)]], device float* out [[buffer(1)]],
                                uint i [[thread_position_in_threadgroup]]) {
    threadgroup float tile[64];
    float sum = 0.0f;
    for (uint k = 0; k < 3; k++) {
        tile[i] = x[i] + float(k);  // <- race
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum += tile[63 - i];  // <- race
    }
    out[i] = sum;
}

kernel void barrier_for_other_memory(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    out[i] = float(i);  // <- race
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const float other = out[63 - i];  // <- race
    threadgroup_barrier(mem_flags::mem_device);
    out[i] = other + 1.0f;
}

kernel void barrier_without_memory(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    threadgroup float tile[64];
    tile[i] = float(i);  // <- race
    threadgroup_barrier(mem_flags::mem_none);
    out[i] = tile[63 - i];  // <- race
}

kernel void barrier_of_simdgroup(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    threadgroup float tile[64];
    tile[i] = 0.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    tile[i] = float(i);  // <- race
    simdgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = tile[i ^ 32];  // <- race
}

kernel void simd_sum_is_no_barrier(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    threadgroup float tile[64];
    tile[i] = 0.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    tile[i] = simd_sum(float(i));  // <- race
    simd_sum(float(i));
    out[i] = tile[i ^ 1];  // <- race
}

kernel void groups_share_cells(device float* sums [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    sums[i] = sums[i] + 1.0f;  // <- race
}

kernel void all_write_one(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    out[i / 2] = float(i);  // <- race
}

kernel void reads_what_others_count(device atomic_uint* counts [[buffer(0)]], device const uint* plain [[buffer(1)]],
                                    device uint* out [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    atomic_fetch_add_explicit(counts, 1u, memory_order_relaxed);  // <- race
    out[i] = ((device const uint*)counts)[0];  // <- race
}

kernel void one_not_written(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    threadgroup half tile[64];
    if (i != 17) {
        tile[i] = half(i);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = float(tile[63 - i]);  // <- uninitialised
}

kernel void not_from_last_group(device float* out [[buffer(0)]], uint group [[threadgroup_position_in_grid]],
                                uint i [[thread_position_in_threadgroup]]) {
    threadgroup float kept;
    if (group == 0 && i == 0) {
        kept = 1.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[group * 64 + i] = kept;  // <- uninitialised
}

kernel void adds_to_nothing(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    out[i] += 1.0f;  // <- uninitialised
}

kernel void barrier_in_branch(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    if (i < 32) {
        threadgroup_barrier(mem_flags::mem_threadgroup);  // <- divergence
    }
    out[i] = 1.0f;
}

kernel void returns_before_barrier(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    out[i] = 0.0f;
    if (i >= 50) {
        return;
    }
    threadgroup_barrier(mem_flags::mem_device);  // <- divergence
    out[i] = 1.0f;
}

kernel void two_barriers(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    if (i < 32) {
        threadgroup_barrier(mem_flags::mem_threadgroup);  // <- divergence
    } else {
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    out[i] = 1.0f;
}

kernel void barrier_as_often_as_asked(device const uint* often [[buffer(0)]], device float* out [[buffer(1)]],
                                      uint i [[thread_position_in_threadgroup]]) {
    for (uint k = 0; k < often[i]; k++) {
        threadgroup_barrier(mem_flags::mem_threadgroup);  // <- divergence
    }
    out[i] = 1.0f;
}

kernel void sum_in_branch(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    float sum = 0.0f;
    if (i % 32 < 20) {
        sum = simd_sum(1.0f);  // <- divergence
    }
    out[i] = sum;
}

kernel void two_functions(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    if (i % 2) {
        out[i] = simd_sum(1.0f);  // <- divergence
    } else {
        out[i] = simd_max(2.0f);
    }
}

kernel void returns_before_sum(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    out[i] = 0.0f;
    if (i >= 40) {
        return;
    }
    out[i] = simd_sum(1.0f);  // <- divergence
}

// Of the 48 threads, the last 16 have no partner.
kernel void takes_from_nobody(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    out[i] = simd_shuffle_xor(float(i), ushort(16));  // <- divergence
}

kernel void takes_from_beyond(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    out[i] = simd_shuffle(float(i), ushort(i % 32 + 1));  // <- divergence
}

kernel void waits_at_two_places(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    if (i < 16) {
        out[i] = simd_sum(1.0f);  // <- divergence
    } else {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = 1.0f;
    }
}

kernel void too_much_memory(device float* out [[buffer(0)]],
                            uint i [[thread_position_in_threadgroup]]) {  // <- threadgroup-memory
    threadgroup float first[4096];
    threadgroup float second[4097];
    first[i] = second[i] = 1.0f;
    out[i] = first[i] + second[i];
}

// A GPU has room for it, used or not.
kernel void too_much_if_it_comes_to_that(device float* out [[buffer(0)]],
                                         uint i [[thread_position_in_threadgroup]]) {  // <- threadgroup-memory
    threadgroup float first[4096];
    first[i] = 1.0f;
    if (i > 1000) {
        threadgroup float second[4097];
        second[i] = 1.0f;
        first[i] = second[i];
    }
    out[i] = first[i];
}

kernel void too_much_with_argument(device float* out [[buffer(0)]], threadgroup float* scratch [[threadgroup(1)]],
                                   uint i [[thread_position_in_threadgroup]]) {  // <- threadgroup-memory
    threadgroup float4 tile[1024];
    tile[i] = float4(1.0f);
    scratch[i] = 1.0f;
    out[i] = tile[i].x + scratch[i];
}

kernel void vector_at_odd_place(device const float* x [[buffer(0)]], device float* out [[buffer(1)]],
                                uint i [[thread_position_in_grid]]) {
    const float4 four = *(device const float4*)(x + i);  // <- undefined
    out[i] = four.x + four.w;
}

kernel void divides_by_zero(device const int* x [[buffer(0)]], device int* out [[buffer(1)]],
                            uint i [[thread_position_in_grid]]) {
    out[i] = 7 / x[i];  // <- undefined
}

kernel void index_does_not_fit(device const int* x [[buffer(0)]], device int* out [[buffer(1)]],
                               uint i [[thread_position_in_grid]]) {
    out[i] = x[i] * 65536;  // <- undefined
}

constant uint width [[function_constant(0)]];
constant bool scaled [[function_constant(1)]];

kernel void constant_without_value(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    out[i] = scaled ? 2.0f : 1.0f;  // <- constant-not-set
}

kernel void waits_for_nobody(device atomic_uint* flag [[buffer(0)]], device float* out [[buffer(1)]],
                             uint i [[thread_position_in_grid]]) {
    while (atomic_load_explicit(flag, memory_order_relaxed) == 0) {  // <- stuck
    }
    out[i] = 1.0f;
}
