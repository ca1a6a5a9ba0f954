// <metal_math>, <metal_common>, <metal_integer>, <metal_relational> and <metal_geometric>. Half and bfloat are computed
// in float and rounded once. `fast::` and `precise::` are both exact here: what a GPU's fast math costs is not seen.
// But what Metal leaves undefined for `fast::`, a function of an infinity or of a NaN, is a NaN.
#pragma once

#include "types.h"

namespace metal {

template <class T>
constexpr bool emu_is_float = is_floating_point_v<emu_component<T>> && emu_has_functions<T>;
template <class T>
using emu_float = enable_if_t<emu_is_float<T>, T>;
template <class T>
using emu_number = enable_if_t<emu_has_functions<T>, T>;

// `f` for each component.
template <class R, class T, class F>
inline R emu_map(T x, F f) {
    if constexpr (emu_size<T> == 1) {
        return (R)f(x);
    } else {
        R r;
        for (int i = 0; i < emu_size<T>; i++) r[i] = (emu_component<R>)f(emu_component<T>(x[i]));
        return r;
    }
}
template <class R, class T, class F>
inline R emu_map(T x, T y, F f) {
    if constexpr (emu_size<T> == 1) {
        return (R)f(x, y);
    } else {
        R r;
        for (int i = 0; i < emu_size<T>; i++)
            r[i] = (emu_component<R>)f(emu_component<T>(x[i]), emu_component<T>(y[i]));
        return r;
    }
}

// Whether a namespace's functions are made for finite numbers alone: `fast` has one of its own.
constexpr bool emu_only_finite = false;
inline bool emu_finite(float a) { return __builtin_isfinite(a); }

#define EMU_UNARY(name, ...)                                               \
    template <class T>                                                     \
    inline emu_float<T> name(T x) {                                        \
        return emu_map<T>(x, [](float a) -> float {                        \
            return !emu_only_finite || emu_finite(a) ? __VA_ARGS__ : __builtin_nanf(""); \
        });                                                                \
    }                                                                      \
    template <class T>                                                     \
    inline enable_if_t<is_integral_v<T>, float> name(T x) {                \
        return name((float)x);                                             \
    }
#define EMU_BINARY(name, ...)                                              \
    template <class T>                                                     \
    inline emu_float<T> name(T x, T y) {                                   \
        return emu_map<T>(x, y, [](float a, float b) -> float {            \
            return !emu_only_finite || (emu_finite(a) && emu_finite(b)) ? __VA_ARGS__ : __builtin_nanf(""); \
        });                                                                \
    }
#define EMU_MATH                                          \
    EMU_UNARY(exp, __builtin_expf(a))                     \
    EMU_UNARY(exp2, __builtin_exp2f(a))                   \
    EMU_UNARY(exp10, __builtin_powf(10.0f, a))            \
    EMU_UNARY(log, __builtin_logf(a))                     \
    EMU_UNARY(log2, __builtin_log2f(a))                   \
    EMU_UNARY(log10, __builtin_log10f(a))                 \
    EMU_UNARY(sin, __builtin_sinf(a))                     \
    EMU_UNARY(cos, __builtin_cosf(a))                     \
    EMU_UNARY(tan, __builtin_tanf(a))                     \
    EMU_UNARY(asin, __builtin_asinf(a))                   \
    EMU_UNARY(acos, __builtin_acosf(a))                   \
    EMU_UNARY(atan, __builtin_atanf(a))                   \
    EMU_UNARY(sinh, __builtin_sinhf(a))                   \
    EMU_UNARY(cosh, __builtin_coshf(a))                   \
    EMU_UNARY(tanh, __builtin_tanhf(a))                   \
    EMU_UNARY(asinh, __builtin_asinhf(a))                 \
    EMU_UNARY(acosh, __builtin_acoshf(a))                 \
    EMU_UNARY(atanh, __builtin_atanhf(a))                 \
    EMU_UNARY(sqrt, __builtin_sqrtf(a))                   \
    EMU_UNARY(rsqrt, 1.0f / __builtin_sqrtf(a))           \
    EMU_UNARY(floor, __builtin_floorf(a))                 \
    EMU_UNARY(ceil, __builtin_ceilf(a))                   \
    EMU_UNARY(round, __builtin_roundf(a))                 \
    EMU_UNARY(rint, __builtin_rintf(a))                   \
    EMU_UNARY(trunc, __builtin_truncf(a))                 \
    EMU_UNARY(fract, a - __builtin_floorf(a))             \
    EMU_UNARY(fabs, __builtin_fabsf(a))                   \
    EMU_UNARY(sign, (a > 0 ? 1.0f : a < 0 ? -1.0f : 0.0f)) \
    EMU_BINARY(pow, __builtin_powf(a, b))                 \
    EMU_BINARY(powr, __builtin_powf(a, b))                \
    EMU_BINARY(fmod, __builtin_fmodf(a, b))               \
    EMU_BINARY(atan2, __builtin_atan2f(a, b))             \
    EMU_BINARY(copysign, __builtin_copysignf(a, b))       \
    EMU_BINARY(fmin, __builtin_fminf(a, b))               \
    EMU_BINARY(fmax, __builtin_fmaxf(a, b))               \
    EMU_BINARY(fdim, __builtin_fdimf(a, b))               \
    EMU_BINARY(divide, a / b)                             \
    template <class T>                                    \
    inline emu_float<T> sincos(T x, T& cosine) {          \
        cosine = cos(x);                                  \
        return sin(x);                                    \
    }                                                     \
    template <class T>                                    \
    inline emu_number<T> min(T x, T y) {                  \
        return emu_map<T>(x, y, [](auto a, auto b) {      \
            if constexpr (emu_is_float<decltype(a)>)      \
                return __builtin_fminf((float)a, (float)b); \
            else                                          \
                return b < a ? b : a;                     \
        });                                               \
    }                                                     \
    template <class T>                                    \
    inline emu_number<T> max(T x, T y) {                  \
        return emu_map<T>(x, y, [](auto a, auto b) {      \
            if constexpr (emu_is_float<decltype(a)>)      \
                return __builtin_fmaxf((float)a, (float)b); \
            else                                          \
                return a < b ? b : a;                     \
        });                                               \
    }                                                     \
    template <class T>                                    \
    inline emu_number<T> clamp(T x, T low, T high) {      \
        return min(max(x, low), high);                    \
    }                                                     \
    template <class T>                                    \
    inline emu_number<T> abs(T x) {                       \
        return emu_map<T>(x, [](auto a) { return a < decltype(a)(0) ? decltype(a)(-a) : a; }); \
    }                                                     \
    template <class T>                                    \
    inline emu_float<T> saturate(T x) {                   \
        return emu_map<T>(x, [](float a) { return __builtin_fminf(__builtin_fmaxf(a, 0.0f), 1.0f); }); \
    }
EMU_MATH
namespace fast {
constexpr bool emu_only_finite = true;
EMU_MATH
}
namespace precise {
EMU_MATH
}
#undef EMU_MATH
#undef EMU_UNARY
#undef EMU_BINARY

template <class T>
inline emu_float<T> fma(T a, T b, T c) {
    if constexpr (emu_size<T> == 1) {
        return (T)__builtin_fmaf((float)a, (float)b, (float)c);
    } else {
        T r;
        for (int i = 0; i < emu_size<T>; i++)
            r[i] = (emu_component<T>)__builtin_fmaf((float)a[i], (float)b[i], (float)c[i]);
        return r;
    }
}
template <class T>
inline emu_float<T> mad(T a, T b, T c) {
    return fma(a, b, c);
}
template <class T>
inline emu_float<T> max3(T a, T b, T c) {
    return max(a, max(b, c));
}
template <class T>
inline emu_float<T> min3(T a, T b, T c) {
    return min(a, min(b, c));
}
template <class T>
inline emu_float<T> ldexp(T x, int exponent) {
    return (T)__builtin_ldexpf((float)x, exponent);
}
template <class T>
inline emu_float<T> frexp(T x, int& exponent) {
    return (T)__builtin_frexpf((float)x, &exponent);
}
template <class T>
inline emu_float<T> modf(T x, T& whole) {
    whole = trunc(x);
    return x - whole;
}

// ---- comparing

template <class T>
struct emu_truth_of {
    typedef bool type;
};
template <class T, int N>
struct emu_truth_of<T __attribute__((ext_vector_type(N)))> {
    typedef uint8_t type __attribute__((ext_vector_type(N)));
};
template <class T>
using emu_truth = typename emu_truth_of<T>::type;
#define EMU_CLASSIFY(name, ...)                                                        \
    template <class T>                                                                 \
    inline enable_if_t<emu_is_float<T>, emu_truth<T>> name(T x) {                      \
        return emu_map<emu_truth<T>>(x, [](float a) -> bool { return __VA_ARGS__; });  \
    }
EMU_CLASSIFY(isnan, __builtin_isnan(a))
EMU_CLASSIFY(isinf, __builtin_isinf(a))
EMU_CLASSIFY(isfinite, __builtin_isfinite(a))
EMU_CLASSIFY(isnormal, __builtin_isnormal(a))
EMU_CLASSIFY(signbit, __builtin_signbit(a))
#undef EMU_CLASSIFY

template <class T>
inline emu_float<T> mix(T a, T b, T t) {
    return a + (b - a) * t;
}
template <class T>
inline emu_float<T> step(T edge, T x) {
    return emu_map<T>(edge, x, [](auto a, auto b) { return b < a ? 0.0f : 1.0f; });
}
template <class T>
inline emu_float<T> smoothstep(T low, T high, T x) {
    const T t = saturate((x - low) / (high - low));
    return t * t * ((T)3 - (T)2 * t);
}
template <class T, class C>
inline emu_number<T> select(T if_false, T if_true, C condition) {
    if constexpr (emu_size<T> == 1) {
        return condition ? if_true : if_false;
    } else {
        T r;
        for (int i = 0; i < emu_size<T>; i++) r[i] = condition[i] ? if_true[i] : if_false[i];
        return r;
    }
}
template <class T>
inline bool any(T x) {
    if constexpr (emu_size<T> == 1) {
        return x;
    } else {
        for (int i = 0; i < emu_size<T>; i++)
            if (x[i]) return true;
        return false;
    }
}
template <class T>
inline bool all(T x) {
    if constexpr (emu_size<T> == 1) {
        return x;
    } else {
        for (int i = 0; i < emu_size<T>; i++)
            if (!x[i]) return false;
        return true;
    }
}

// ---- geometry

template <class T>
inline enable_if_t<emu_is_float<T> && is_vector_v<T>, emu_component<T>> dot(T a, T b) {
    emu_component<T> sum = 0;
    for (int i = 0; i < emu_size<T>; i++) sum = sum + a[i] * b[i];
    return sum;
}
template <class T>
inline auto length_squared(T a) {
    return dot(a, a);
}
template <class T>
inline auto length(T a) {
    return sqrt(dot(a, a));
}
template <class T>
inline auto distance(T a, T b) {
    return length(a - b);
}
template <class T>
inline T normalize(T a) {
    return a * rsqrt(dot(a, a));
}

// ---- integers

template <class T>
using emu_integer = enable_if_t<__is_integral(emu_component<T>), T>;
template <class T>
using emu_bits = conditional_t<sizeof(T) == 8, uint64_t, conditional_t<sizeof(T) == 4, uint32_t,
                               conditional_t<sizeof(T) == 2, uint16_t, uint8_t>>>;
#define EMU_INTEGER(name, ...)                                                             \
    template <class T>                                                                     \
    inline emu_integer<T> name(T x) {                                                      \
        return emu_map<T>(x, [](auto signed_) {                                            \
            constexpr int width = sizeof(signed_) * 8;                                     \
            const uint64_t a = (emu_bits<decltype(signed_)>)signed_;                       \
            return __VA_ARGS__;                                                            \
        });                                                                                \
    }
EMU_INTEGER(popcount, (void)width, __builtin_popcountll(a))
EMU_INTEGER(clz, a ? __builtin_clzll(a) - (64 - width) : width)
EMU_INTEGER(ctz, a ? __builtin_ctzll(a) : width)
EMU_INTEGER(reverse_bits, __builtin_bitreverse64(a) >> (64 - width))
#undef EMU_INTEGER
template <class T>
inline emu_integer<T> extract_bits(T x, uint offset, uint bits) {
    constexpr uint width = sizeof(T) * 8;
    if (bits == 0) return 0;
    const emu_bits<T> up = (emu_bits<T>)((emu_bits<T>)x << (width - offset - bits));
    return (T)((T)up >> (width - bits));
}
template <class T>
inline emu_integer<T> insert_bits(T base, T insert, uint offset, uint bits) {
    const uint64_t mask = (bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1) << offset;
    return (T)(((uint64_t)base & ~mask) | (((uint64_t)insert << offset) & mask));
}
template <class T>
inline emu_integer<T> rotate(T x, T by) {
    return emu_map<T>(x, by, [](auto a, auto b) {
        typedef emu_bits<decltype(a)> Bits;
        constexpr uint width = sizeof(a) * 8;
        const uint n = (uint)b % width;
        return n ? (Bits)((Bits)a << n | (Bits)a >> (width - n)) : (Bits)a;
    });
}
template <class T>
inline emu_integer<T> mulhi(T a, T b) {
    static_assert(emu_size<T> == 1);
    typedef conditional_t<__is_signed(T), __int128, unsigned __int128> Wide;
    return (T)(((Wide)a * (Wide)b) >> (sizeof(T) * 8));
}
template <class T>
inline emu_integer<T> mul24(T a, T b) {
    return a * b;
}
template <class T>
inline emu_integer<T> mad24(T a, T b, T c) {
    return a * b + c;
}
template <class T>
inline emu_integer<T> absdiff(T a, T b) {
    return emu_map<T>(a, b, [](auto x, auto y) { return x < y ? y - x : x - y; });
}
template <class T>
inline emu_integer<T> addsat(T a, T b) {
    return emu_map<T>(a, b, [](auto x, auto y) {
        decltype(x) sum;
        if (!__builtin_add_overflow(x, y, &sum)) return sum;
        return y < 0 ? numeric_limits<decltype(x)>::min() : numeric_limits<decltype(x)>::max();
    });
}
template <class T>
inline emu_integer<T> subsat(T a, T b) {
    return emu_map<T>(a, b, [](auto x, auto y) {
        decltype(x) difference;
        if (!__builtin_sub_overflow(x, y, &difference)) return difference;
        return y > 0 ? numeric_limits<decltype(x)>::min() : numeric_limits<decltype(x)>::max();
    });
}

}  // namespace metal
