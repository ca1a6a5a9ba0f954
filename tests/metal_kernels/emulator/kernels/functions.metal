// Each function of the library on a value for each thread.
#include <metal_stdlib>
using namespace metal;

#define ARGUMENTS(T)                                                                                      \
    device const T *x [[buffer(0)]], device const T *y [[buffer(1)]], device const T *z [[buffer(2)]],    \
        device T *out [[buffer(3)]], uint i [[thread_position_in_grid]]
#define FUNCTION(name, T, ...) \
    kernel void name(ARGUMENTS(T)) { const T a = x[i], b = y[i], c = z[i]; (void)b; (void)c; out[i] = __VA_ARGS__; }

// ---- lanes
FUNCTION(lanes_sum, float, simd_sum(a))
FUNCTION(lanes_product, float, simd_product(a))
FUNCTION(lanes_max, float, simd_max(a))
FUNCTION(lanes_min, float, simd_min(a))
FUNCTION(lanes_inclusive, float, simd_prefix_inclusive_sum(a))
FUNCTION(lanes_exclusive, float, simd_prefix_exclusive_sum(a))
FUNCTION(lanes_inclusive_product, float, simd_prefix_inclusive_product(a))
FUNCTION(lanes_exclusive_product, float, simd_prefix_exclusive_product(a))
FUNCTION(lanes_shuffle, float, simd_shuffle(a, ushort((5 * i + 3) % 32)))
FUNCTION(lanes_xor, float, simd_shuffle_xor(a, ushort(9)))
FUNCTION(lanes_up, float, simd_shuffle_up(a, ushort(3)))
FUNCTION(lanes_down, float, simd_shuffle_down(a, ushort(3)))
FUNCTION(lanes_rotate_up, float, simd_shuffle_rotate_up(a, ushort(3)))
FUNCTION(lanes_rotate_down, float, simd_shuffle_rotate_down(a, ushort(3)))
FUNCTION(lanes_fill_up, float, simd_shuffle_and_fill_up(a, b, ushort(3)))
FUNCTION(lanes_fill_down, float, simd_shuffle_and_fill_down(a, b, ushort(3)))
FUNCTION(lanes_broadcast, float, simd_broadcast(a, ushort(7)))
FUNCTION(lanes_first, float, simd_broadcast_first(a))
FUNCTION(lanes_quad_sum, float, quad_sum(a))
FUNCTION(lanes_quad_max, float, quad_max(a))
FUNCTION(lanes_quad_xor, float, quad_shuffle_xor(a, ushort(2)))
FUNCTION(lanes_quad_broadcast, float, quad_broadcast(a, ushort(1)))
FUNCTION(lanes_vector, float, simd_sum(float4(a, b, c, 1.0f)).y)
FUNCTION(lanes_and, uint, simd_and(a))
FUNCTION(lanes_or, uint, simd_or(a))
FUNCTION(lanes_bits_xor, uint, simd_xor(a))
FUNCTION(lanes_ballot, uint, uint(ulong(simd_ballot(a & 1))))
FUNCTION(lanes_all, uint, uint(simd_all(a != 0)) * 2 + uint(simd_all(a & 1)))
FUNCTION(lanes_any, uint, uint(simd_any(a == 0)) * 2 + uint(simd_any(a & 1)))
FUNCTION(lanes_is_first, uint, uint(simd_is_first()))

// ---- floats
FUNCTION(float_exp, float, exp(a))
FUNCTION(float_exp2, float, fast::exp2(a))
FUNCTION(float_log, float, precise::log(fabs(a)))
FUNCTION(float_log2, float, log2(fabs(a)))
FUNCTION(float_sin, float, sin(a))
FUNCTION(float_cos, float, cos(a))
FUNCTION(float_tanh, float, tanh(a))
FUNCTION(float_rsqrt, float, rsqrt(fabs(a)))
FUNCTION(float_pow, float, pow(fabs(a), b))
FUNCTION(float_fma, float, fma(a, b, c))
FUNCTION(float_clamp, float, clamp(a, -1.0f, 2.0f))
FUNCTION(float_mix, float, mix(a, b, 0.25f))
FUNCTION(float_select, float, select(a, b, c > 0.0f))
FUNCTION(float_step, float, step(a, b))
FUNCTION(float_rint, float, rint(a))
FUNCTION(float_trunc, float, trunc(a))
FUNCTION(float_fract, float, fract(a))
FUNCTION(float_sign, float, sign(a))
FUNCTION(float_copysign, float, copysign(a, b))
FUNCTION(float_max_of_nan, float, max(a, NAN))
FUNCTION(float_dot, float, dot(float3(a, b, c), float3(c, b, a)))
FUNCTION(float_length, float, length(float2(a, b)))
FUNCTION(float_bits, float, as_type<float>(as_type<uint>(a) ^ 0x80000000u))
FUNCTION(float_swizzle, float, float4(a, b, c, 4.0f).zyxw.x)
FUNCTION(float_literal, float, a * 0.1 + 1.5h)

// ---- integers
FUNCTION(uint_popcount, uint, popcount(a))
FUNCTION(uint_clz, uint, clz(a))
FUNCTION(uint_ctz, uint, ctz(a))
FUNCTION(uint_reverse, uint, reverse_bits(a))
FUNCTION(uint_extract, uint, extract_bits(a, 5u, 9u))
FUNCTION(uint_insert, uint, insert_bits(a, b, 5u, 9u))
FUNCTION(uint_rotate, uint, rotate(a, b))
FUNCTION(uint_mulhi, uint, mulhi(a, b))
FUNCTION(uint_absdiff, uint, absdiff(a, b))
FUNCTION(uint_addsat, uint, addsat(a, b))
FUNCTION(uint_subsat, uint, subsat(a, b))
FUNCTION(uint_max, uint, max(a, b))
FUNCTION(uint_clamp, uint, clamp(a, 7u, 1000u))
FUNCTION(int_extract, int, extract_bits(a, 5u, 9u))
FUNCTION(int_mulhi, int, mulhi(a, b))
FUNCTION(int_addsat, int, addsat(a, b))
FUNCTION(int_subsat, int, subsat(a, b))
FUNCTION(int_min, int, min(a, b))

// The arrangement of a matrix over the lanes: element r, c is 8 r + c.
kernel void arrangement(device const float* x [[buffer(0)]], device float* out [[buffer(1)]],
                        device float* turned [[buffer(2)]], uint lane [[thread_index_in_simdgroup]]) {
    simdgroup_float8x8 m;
    simdgroup_load(m, x, 8);
    out[2 * lane] = m.thread_elements()[0];
    out[2 * lane + 1] = m.thread_elements()[1];
    simdgroup_load(m, x, 8, ulong2(0, 0), true);
    simdgroup_store(m, turned, 8);
}
