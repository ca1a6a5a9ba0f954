// Metal's scalar and vector types, in clang's own terms: the layout, swizzles and arithmetic are the same.
#pragma once

typedef __UINT8_TYPE__ uint8_t;
typedef __INT8_TYPE__ int8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __INT16_TYPE__ int16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __INT32_TYPE__ int32_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __INT64_TYPE__ int64_t;
typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef _Float16 half;

// Where nothing is checked: in what stands for the hardware itself.
#define EMU_UNCHECKED __attribute__((no_sanitize("thread", "undefined")))
#define EMU_INLINE inline __attribute__((always_inline))

#ifdef EMU_ADDRESS_SPACES
#define EMU_DEVICE __attribute__((address_space(1)))
#define EMU_CONSTANT const __attribute__((address_space(2)))
#define EMU_THREADGROUP __attribute__((address_space(3)))
#else
#define EMU_DEVICE
#define EMU_CONSTANT const
#define EMU_THREADGROUP
#endif

#ifndef EMU_STRICT_BFLOAT
typedef __bf16 bfloat;

// GCC's library of before version 13 lacks what clang calls for this conversion: round to nearest, ties to even.
extern "C" EMU_UNCHECKED __attribute__((weak)) __bf16 __truncsfbf2(float value) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, value);
    const bool nan = (bits & 0x7fffffff) > 0x7f800000;
    return __builtin_bit_cast(__bf16, nan ? uint16_t(bits >> 16 | 0x40)
                                          : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16));
}
#else
// Only for the lint. In Metal nothing becomes a bfloat by itself, and a bfloat becomes a float but no half.
struct bfloat {
    uint16_t bits;
    bfloat() = default;
    template <class T>
    explicit constexpr bfloat(T value) : bits(__builtin_bit_cast(uint16_t, (__bf16)(float)value)) {}
    constexpr operator float() const { return (float)__builtin_bit_cast(__bf16, bits); }
    template <class T>
    explicit constexpr operator T() const {
        return (T)(float)*this;
    }
    constexpr operator half() const = delete;
    constexpr bfloat operator-() const { return bfloat(-(float)*this); }
};
#define EMU_OPERATOR(op)                                                                         \
    constexpr bfloat operator op(bfloat a, bfloat b) { return bfloat((float)a op (float)b); }    \
    constexpr float operator op(bfloat a, float b) { return (float)a op b; }                     \
    constexpr float operator op(float a, bfloat b) { return a op (float)b; }                     \
    inline bfloat& operator op##=(bfloat & a, bfloat b) { return a = a op b; }
EMU_OPERATOR(+)
EMU_OPERATOR(-)
EMU_OPERATOR(*)
EMU_OPERATOR(/)
#undef EMU_OPERATOR
template <int N>
struct EmuBfloatVector;
template <>
struct EmuBfloatVector<2> {
    bfloat x, y;
    bfloat& operator[](int i) { return (&x)[i]; }
    bfloat operator[](int i) const { return (&x)[i]; }
};
template <>
struct EmuBfloatVector<3> {
    bfloat x, y, z, padding;
    bfloat& operator[](int i) { return (&x)[i]; }
    bfloat operator[](int i) const { return (&x)[i]; }
};
template <>
struct EmuBfloatVector<4> {
    bfloat x, y, z, w;
    bfloat& operator[](int i) { return (&x)[i]; }
    bfloat operator[](int i) const { return (&x)[i]; }
};
#endif

#define EMU_VECTORS(T, name)                               \
    typedef T name##2 __attribute__((ext_vector_type(2))); \
    typedef T name##3 __attribute__((ext_vector_type(3))); \
    typedef T name##4 __attribute__((ext_vector_type(4)));
EMU_VECTORS(signed char, char)
EMU_VECTORS(uchar, uchar)
EMU_VECTORS(short, short)
EMU_VECTORS(ushort, ushort)
EMU_VECTORS(int, int)
EMU_VECTORS(uint, uint)
EMU_VECTORS(long, long)
EMU_VECTORS(ulong, ulong)
EMU_VECTORS(half, half)
EMU_VECTORS(float, float)
EMU_VECTORS(uchar, bool)  // clang packs vectors of bool into bits; Metal gives each a byte
#ifndef EMU_STRICT_BFLOAT
EMU_VECTORS(bfloat, bfloat)
#else
typedef EmuBfloatVector<2> bfloat2;
typedef EmuBfloatVector<3> bfloat3;
typedef EmuBfloatVector<4> bfloat4;
#endif
#undef EMU_VECTORS

namespace metal {

template <class T, T v>
struct integral_constant {
    static constexpr T value = v;
    typedef T value_type;
    typedef integral_constant type;
    constexpr operator T() const { return v; }
};
template <bool B>
using bool_constant = integral_constant<bool, B>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;

template <class A, class B>
struct is_same : false_type {};
template <class A>
struct is_same<A, A> : true_type {};
template <class A, class B>
constexpr bool is_same_v = is_same<A, B>::value;

template <bool B, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> {
    typedef T type;
};
template <bool B, class T = void>
using enable_if_t = typename enable_if<B, T>::type;

template <bool B, class T, class F>
struct conditional {
    typedef T type;
};
template <class T, class F>
struct conditional<false, T, F> {
    typedef F type;
};
template <bool B, class T, class F>
using conditional_t = typename conditional<B, T, F>::type;

#define EMU_TRANSFORM(name, ...)                 \
    template <class T>                           \
    struct name {                                \
        typedef __VA_ARGS__ type;                \
    };                                           \
    template <class T>                           \
    using name##_t = typename name<T>::type;
EMU_TRANSFORM(remove_cv, __remove_cv(T))
EMU_TRANSFORM(remove_const, __remove_const(T))
EMU_TRANSFORM(remove_volatile, __remove_volatile(T))
EMU_TRANSFORM(remove_reference, __remove_reference_t(T))
EMU_TRANSFORM(remove_pointer, __remove_pointer(T))
EMU_TRANSFORM(decay, __decay(T))
EMU_TRANSFORM(make_unsigned, __make_unsigned(T))
EMU_TRANSFORM(make_signed, __make_signed(T))
EMU_TRANSFORM(underlying_type, __underlying_type(T))
#undef EMU_TRANSFORM

template <class T>
struct emu_without_space {
    typedef T type;
};
template <class T, int A>
struct emu_without_space<__attribute__((address_space(A))) T> {
    typedef T type;
};
template <class T>
using remove_addrspace_t = typename emu_without_space<T>::type;

template <class T>
constexpr bool emu_is_small_float = is_same_v<remove_cv_t<T>, half> || is_same_v<remove_cv_t<T>, bfloat>;
#define EMU_TRAIT(name, ...)                           \
    template <class T>                                 \
    constexpr bool name##_v = __VA_ARGS__;             \
    template <class T>                                 \
    struct name : bool_constant<name##_v<T>> {};
EMU_TRAIT(is_integral, __is_integral(T))
EMU_TRAIT(is_floating_point, __is_floating_point(T) || emu_is_small_float<T>)
EMU_TRAIT(is_arithmetic, __is_arithmetic(T) || emu_is_small_float<T>)
EMU_TRAIT(is_signed, __is_signed(T) || emu_is_small_float<T>)
EMU_TRAIT(is_unsigned, __is_unsigned(T))
EMU_TRAIT(is_const, __is_const(T))
EMU_TRAIT(is_empty, __is_empty(T))
EMU_TRAIT(is_enum, __is_enum(T))
EMU_TRAIT(is_class, __is_class(T))
EMU_TRAIT(is_pointer, __is_pointer(T))
EMU_TRAIT(is_trivially_copyable, __is_trivially_copyable(T))
#undef EMU_TRAIT
template <class A, class B>
constexpr bool is_convertible_v = __is_convertible_to(A, B);
template <class A, class B>
struct is_convertible : bool_constant<__is_convertible_to(A, B)> {};
template <class...>
using void_t = void;
template <class T>
__add_rvalue_reference(T) declval();
template <class...>
struct disjunction : false_type {};
template <class A, class... B>
struct disjunction<A, B...> : conditional_t<bool(A::value), A, disjunction<B...>> {};
template <class...>
struct conjunction : true_type {};
template <class A, class... B>
struct conjunction<A, B...> : conditional_t<bool(A::value), conjunction<B...>, A> {};
template <class A, class B>
struct pair {
    A first;
    B second;
};

#ifndef EMU_STRICT_BFLOAT
template <class T, int N>
using vec = T __attribute__((ext_vector_type(N)));
#else
template <class T, int N>
struct emu_vector {
    typedef T type __attribute__((ext_vector_type(N)));
};
template <int N>
struct emu_vector<bfloat, N> {
    typedef EmuBfloatVector<N> type;
};
template <class T, int N>
using vec = typename emu_vector<T, N>::type;
#endif

// How many components a type has, and their type.
template <class T>
struct emu_shape {
    static constexpr int size = 1;
    typedef T type;
};
template <class T, int N>
struct emu_shape<T __attribute__((ext_vector_type(N)))> {
    static constexpr int size = N;
    typedef T type;
};
#ifdef EMU_STRICT_BFLOAT
template <int N>
struct emu_shape<EmuBfloatVector<N>> {
    static constexpr int size = N;
    typedef bfloat type;
};
#endif
template <class T>
constexpr int emu_size = emu_shape<T>::size;
template <class T>
using emu_component = typename emu_shape<T>::type;
template <class T>
constexpr bool is_vector_v = (emu_size<T> > 1);

// Functions that Metal's library has for every type but bfloat. Only the lint tells it apart.
#ifdef EMU_STRICT_BFLOAT
template <class T>
constexpr bool emu_has_functions = !is_same_v<emu_component<T>, bfloat>;
#else
template <class T>
constexpr bool emu_has_functions = true;
#endif

template <class T, int N>
struct packed_vec {
    T data[N];
    packed_vec() = default;
    packed_vec(vec<T, N> value) {
        for (int i = 0; i < N; i++) data[i] = value[i];
    }
    operator vec<T, N>() const {
        vec<T, N> value;
        for (int i = 0; i < N; i++) value[i] = data[i];
        return value;
    }
    T& operator[](int i) { return data[i]; }
    T operator[](int i) const { return data[i]; }
};
#define EMU_PACKED(T)                     \
    typedef packed_vec<T, 2> packed_##T##2; \
    typedef packed_vec<T, 3> packed_##T##3; \
    typedef packed_vec<T, 4> packed_##T##4;
EMU_PACKED(char)
EMU_PACKED(uchar)
EMU_PACKED(short)
EMU_PACKED(ushort)
EMU_PACKED(int)
EMU_PACKED(uint)
EMU_PACKED(half)
EMU_PACKED(bfloat)
EMU_PACKED(float)
#undef EMU_PACKED

template <class T, size_t N>
struct array {
    T data[N];
    constexpr T& operator[](size_t i) { return data[i]; }
    constexpr const T& operator[](size_t i) const { return data[i]; }
    constexpr size_t size() const { return N; }
};

template <class T>
struct numeric_limits {
    static constexpr bool is_signed = (T)-1 < (T)0;
    static constexpr int digits = sizeof(T) * 8 - (is_signed ? 1 : 0);
    static constexpr T max() { return is_signed ? (T)((((T)1 << (sizeof(T) * 8 - 2)) - 1) * 2 + 1) : (T) ~(T)0; }
    static constexpr T min() { return is_signed ? (T)(-max() - 1) : (T)0; }
    static constexpr T lowest() { return min(); }
};
template <>
struct numeric_limits<bool> {
    static constexpr bool max() { return true; }
    static constexpr bool min() { return false; }
    static constexpr bool lowest() { return false; }
};
#define EMU_LIMITS(T, largest, smallest, step)                                   \
    template <>                                                                  \
    struct numeric_limits<T> {                                                   \
        static constexpr T max() { return (T)largest; }                          \
        static constexpr T lowest() { return (T)-largest; }                      \
        static constexpr T min() { return (T)smallest; }                         \
        static constexpr T epsilon() { return (T)step; }                         \
        static constexpr T infinity() { return (T)__builtin_inff(); }            \
        static constexpr T quiet_NaN() { return (T)__builtin_nanf(""); }         \
    };
EMU_LIMITS(float, 3.402823466e38f, 1.175494351e-38f, 1.1920929e-07f)
EMU_LIMITS(half, 65504.f, 6.103515625e-05f, 9.765625e-04f)
EMU_LIMITS(bfloat, 3.38953139e38f, 1.175494351e-38f, 7.8125e-03f)
#undef EMU_LIMITS

}  // namespace metal

using metal::packed_bfloat2;
using metal::packed_bfloat3;
using metal::packed_bfloat4;
using metal::packed_char2;
using metal::packed_char3;
using metal::packed_char4;
using metal::packed_float2;
using metal::packed_float3;
using metal::packed_float4;
using metal::packed_half2;
using metal::packed_half3;
using metal::packed_half4;
using metal::packed_int2;
using metal::packed_int3;
using metal::packed_int4;
using metal::packed_short2;
using metal::packed_short3;
using metal::packed_short4;
using metal::packed_uchar2;
using metal::packed_uchar3;
using metal::packed_uchar4;
using metal::packed_uint2;
using metal::packed_uint3;
using metal::packed_uint4;
using metal::packed_ushort2;
using metal::packed_ushort3;
using metal::packed_ushort4;

namespace emulator {

template <class V, class A>
EMU_UNCHECKED constexpr void append(V& vector, int& at, A value) {
    if constexpr (metal::emu_size<A> == 1) {
        vector[at++] = (metal::emu_component<V>)value;
    } else {
        for (int i = 0; i < metal::emu_size<A>; i++) vector[at++] = (metal::emu_component<V>)value[i];
    }
}

// What `float4(a, b)` means: C++ has no such cast to more than one component.
template <class V>
V make() {
    return V{};
}
template <class V, class A, class... More>
EMU_UNCHECKED inline V make(A first, More... more) {
    constexpr int size = metal::emu_size<V>;
    V vector{};
    if constexpr (sizeof...(More) == 0 && metal::emu_size<A> == 1) {
        for (int i = 0; i < size; i++) vector[i] = (metal::emu_component<V>)first;
    } else {
        static_assert((metal::emu_size<A> + ... + metal::emu_size<More>) == size,
                      "a vector is made from as many components as it has");
        int at = 0;
        append(vector, at, first);
        (append(vector, at, more), ...);
    }
    return vector;
}

}  // namespace emulator

template <class To, class From>
inline To as_type(From value) {
    static_assert(sizeof(To) == sizeof(From), "as_type keeps the size");
    return __builtin_bit_cast(To, value);
}

namespace metal {
using ::as_type;
using ::bfloat;
using ::half;
using ::int16_t;
using ::int32_t;
using ::int64_t;
using ::int8_t;
using ::uchar;
using ::uint;
using ::uint16_t;
using ::uint32_t;
using ::uint64_t;
using ::uint8_t;
using ::ulong;
using ::ushort;
#define EMU_USING(name) \
    using ::name##2;    \
    using ::name##3;    \
    using ::name##4;
EMU_USING(bfloat)
EMU_USING(bool)
EMU_USING(char)
EMU_USING(float)
EMU_USING(half)
EMU_USING(int)
EMU_USING(long)
EMU_USING(short)
EMU_USING(uchar)
EMU_USING(uint)
EMU_USING(ulong)
EMU_USING(ushort)
#undef EMU_USING
}  // namespace metal
