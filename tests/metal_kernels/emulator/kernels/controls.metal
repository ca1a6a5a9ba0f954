// Kernels that are right although they come close to what is not. Nothing of them may be reported.
#include <metal_stdlib>
using namespace metal;

kernel void bytes_side_by_side(device uchar* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    threadgroup uchar tile[64];
    tile[i % 64] = uchar(i);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = tile[63 - i % 64];
}

kernel void halves_side_by_side(device half* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    out[i] = half(i) * 0.5h;
}

// A word is written whole by one thread, then halves of it by two.
kernel void words_then_halves(device uint* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    threadgroup uint words[32];
    if (i < 32) {
        words[i] = 0xffffffffu;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    ((threadgroup ushort*)words)[i] = ushort(i);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i < 32) {
        out[i] = words[i];
    }
}

kernel void lanes_exchange(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    threadgroup float tile[64];
    tile[i] = float(i);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = tile[i ^ 31];
}

kernel void through_device_memory(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    out[i] = float(i);
    threadgroup_barrier(mem_flags::mem_device);
    const float other = out[63 - i];
    threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
    out[i] = other + 1.0f;
}

kernel void counts(device atomic_uint* bins [[buffer(0)]], device const uint* values [[buffer(1)]],
                   uint i [[thread_position_in_grid]], uint t [[thread_position_in_threadgroup]]) {
    threadgroup atomic_uint mine[4];
    if (t < 4) {
        atomic_store_explicit(&mine[t], 0u, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    atomic_fetch_add_explicit(&mine[values[i] % 4], 1u, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t < 4) {
        atomic_fetch_add_explicit(&bins[t], atomic_load_explicit(&mine[t], memory_order_relaxed), memory_order_relaxed);
    }
}

// Whole simdgroups may leave, and whole threadgroups may leave out a barrier.
kernel void leaves_early(device float* out [[buffer(0)]], uint group [[threadgroup_position_in_grid]],
                         uint i [[thread_position_in_threadgroup]], uint n [[threads_per_threadgroup]],
                         uint sg [[simdgroup_index_in_threadgroup]]) {
    threadgroup float shared[1];
    out[group * n + i] = 0.0f;
    if (group % 2) {
        if (i == 0) {
            shared[0] = float(group);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[group * n + i] = shared[0];
        return;
    }
    if (sg == 1) {
        return;
    }
    out[group * n + i] = simd_sum(1.0f);
}

// Sums over the lanes that are there: allowed where the launch says that it is meant.
kernel void some_lanes(device int* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    int sum = 0;
    if (i % 2) {
        sum = simd_sum(1);
    } else if (i % 4) {
        sum = simd_sum(100);
    }
    for (uint k = 0; k < i % 3; k++) {
        sum += simd_sum(1000);
    }
    sum += simd_max(int(i)) * 1000000;
    out[i] = sum;
}

kernel void as_much_as_there_is(device float* out [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
    threadgroup float first[4096];
    threadgroup float second[4096];
    first[i] = second[i] = 1.0f;
    out[i] = first[i] + second[i];
}

constant float table[4] = {0.5f, 1.5f, 2.5f, 3.5f};
constant uint width [[function_constant(0)]];
constant bool shifted [[function_constant(1)]];
constant uint twice = width * 2;
constant bool plain = is_function_constant_defined(shifted) ? !shifted : true;

kernel void from_constants(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    out[i] = table[i % 4] + float(twice) + (plain ? 0.0f : 1000.0f);
}

template <typename T, int N>
[[kernel, max_total_threads_per_threadgroup(64)]] void many_declarations(
    device const T* x [[buffer(0)]], device T* out [[buffer(1)]], threadgroup T* scratch [[threadgroup(0)]],
    uint3 where [[thread_position_in_threadgroup]], ushort lane [[thread_index_in_simdgroup]]) {
    alignas(16) threadgroup T tile[N][2], other[N];
    const uint i = where.x;
    tile[i][0] = x[i];
    tile[i][1] = -x[i];
    other[i] = T(i);
    scratch[i] = tile[i][1] * T(2.0f);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const vec<T, 4> v = vec<T, 4>(tile[63 - i][0], tile[63 - i][1], other[63 - i], scratch[63 - i]);
    out[i] = v.x + v.y + v.z + v.w + T(lane) * T(0.0f);
}
template [[host_name("many_f32")]] [[kernel]] decltype(many_declarations<float, 64>) many_declarations<float, 64>;
template [[host_name("many_f16")]] [[kernel]] void many_declarations<half, 64>(
    device const half*, device half*, threadgroup half*, uint3, ushort);

// C = A B in tiles, through matrices of simdgroups.
template <typename T>
[[kernel]] void multiply(device const T* a [[buffer(0)]], device const T* b [[buffer(1)]], device float* c [[buffer(2)]],
                         constant uint3& sizes [[buffer(3)]], uint2 group [[threadgroup_position_in_grid]],
                         uint thread_index [[thread_index_in_threadgroup]],
                         uint sg [[simdgroup_index_in_threadgroup]]) {
    threadgroup T left[16 * 24], right[16 * 24];
    const uint columns = sizes.y, depth = sizes.z;
    simdgroup_matrix<float, 8, 8> sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    const uint row = sg / 2 * 8, column = sg % 2 * 8;
    for (uint k0 = 0; k0 < depth; k0 += 16) {
        for (uint e = thread_index; e < 256; e += 128) {
            left[e / 16 * 24 + e % 16] = a[(group.y * 16 + e / 16) * depth + k0 + e % 16];
            right[e / 16 * 24 + e % 16] = b[(k0 + e / 16) * columns + group.x * 16 + e % 16];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint k = 0; k < 16; k += 8) {
            simdgroup_matrix<T, 8, 8> l, r;
            simdgroup_load(l, left + row * 24 + k, 24);
            simdgroup_load(r, right + k * 24 + column, 24);
            simdgroup_multiply_accumulate(sum, l, r, sum);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    simdgroup_store(sum, c + (group.y * 16 + row) * columns + group.x * 16 + column, columns);
}
template [[host_name("multiply_f32")]] [[kernel]] decltype(multiply<float>) multiply<float>;
template [[host_name("multiply_f16")]] [[kernel]] decltype(multiply<half>) multiply<half>;
template [[host_name("multiply_bf16")]] [[kernel]] decltype(multiply<bfloat>) multiply<bfloat>;
