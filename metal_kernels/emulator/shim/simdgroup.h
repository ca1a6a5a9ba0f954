// <metal_simdgroup>, <metal_simdgroup_matrix> and the barriers of <metal_compute>.
#pragma once

#include "math.h"
#include "interface.h"

// Where a function is called: it costs nothing at run time and survives inlining.
#define EMU_SITE const char *file_ = __builtin_FILE(), int line_ = __builtin_LINE(), int column_ = __builtin_COLUMN()
#define EMU_HERE(what) (EmuSite{file_, line_, column_, what})

namespace metal {

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return (mem_flags)((int)a | (int)b); }

EMU_UNCHECKED inline void threadgroup_barrier(mem_flags flags, EMU_SITE) {
    const EmuSite site = EMU_HERE("threadgroup_barrier");
    emu_threadgroup_barrier((int)flags, &site);
}
EMU_UNCHECKED inline void simdgroup_barrier(mem_flags flags, EMU_SITE) {
    const EmuSite site = EMU_HERE("simdgroup_barrier");
    emu_simdgroup_barrier((int)flags, &site);
}

// What the lanes of a simdgroup handed over at one place.
template <class T>
struct emu_lanes {
    EmuLanes lanes;
    EmuSite site;
    unsigned lane() const { return lanes.lane; }
    bool active(unsigned lane) const { return lanes.active >> lane & 1; }
    EMU_UNCHECKED T read(unsigned lane) const {
        T value;
        __builtin_memcpy(&value, lanes.values + 32 * lane, sizeof(T));
        return value;
    }
    // A value that the program asked for: of a lane that takes no part it would be anything.
    EMU_UNCHECKED T at(unsigned lane) const {
        if (lane >= 32 || !active(lane)) emu_inactive_lane(&site, lane);
        return read(lane & 31);
    }
};
template <class T>
EMU_UNCHECKED inline emu_lanes<T> emu_meet(T value, EmuSite site) {
    static_assert(sizeof(T) <= 32, "a lane hands over 32 bytes at most");
    emu_lanes<T> lanes;
    lanes.site = site;
    emu_exchange(&value, sizeof(T), &lanes.site, &lanes.lanes);
    return lanes;
}

// Simdgroup functions take scalars and vectors of at most 32-bit components, and no bfloat.
template <class T>
using emu_lane_value = enable_if_t<is_arithmetic_v<emu_component<T>> && sizeof(emu_component<T>) <= 4 &&
                                       emu_has_functions<T>, T>;

// Pairs, then pairs of pairs. Lanes that take no part are left out.
template <class T, class F>
EMU_UNCHECKED inline T emu_reduce(const emu_lanes<T>& lanes, unsigned first, unsigned count, F f) {
    T values[32];
    bool there[32];
    for (unsigned i = 0; i < count; i++) {
        there[i] = lanes.active(first + i);
        if (there[i]) values[i] = lanes.read(first + i);
    }
    for (unsigned step = 1; step < count; step *= 2) {
        for (unsigned i = 0; i + step < count; i += 2 * step) {
            if (there[i] && there[i + step]) {
                values[i] = f(values[i], values[i + step]);
            } else if (there[i + step]) {
                values[i] = values[i + step];
                there[i] = true;
            }
        }
    }
    return values[0];
}
#define EMU_REDUCE(name, ...)                                                                          \
    template <class T>                                                                                 \
    EMU_UNCHECKED inline emu_lane_value<T> simd_##name(T value, EMU_SITE) {                            \
        return emu_reduce(emu_meet(value, EMU_HERE("simd_" #name)), 0, 32, [](T a, T b) -> T { return __VA_ARGS__; }); \
    }                                                                                                  \
    template <class T>                                                                                 \
    EMU_UNCHECKED inline emu_lane_value<T> quad_##name(T value, EMU_SITE) {                            \
        const auto lanes = emu_meet(value, EMU_HERE("quad_" #name));                                   \
        return emu_reduce(lanes, lanes.lane() & ~3u, 4, [](T a, T b) -> T { return __VA_ARGS__; });    \
    }
EMU_REDUCE(sum, a + b)
EMU_REDUCE(product, a * b)
EMU_REDUCE(max, metal::max(a, b))
EMU_REDUCE(min, metal::min(a, b))
EMU_REDUCE(and, a & b)
EMU_REDUCE(or, a | b)
EMU_REDUCE(xor, a ^ b)
#undef EMU_REDUCE

#define EMU_PREFIX(name, identity, op, end)                                                            \
    template <class T>                                                                                 \
    EMU_UNCHECKED inline emu_lane_value<T> name(T value, EMU_SITE) {                                   \
        const auto lanes = emu_meet(value, EMU_HERE(#name));                                           \
        T result = (T)identity;                                                                        \
        for (unsigned i = 0; i < lanes.lane() + end; i++)                                              \
            if (lanes.active(i)) result = result op lanes.read(i);                                     \
        return result;                                                                                 \
    }
EMU_PREFIX(simd_prefix_inclusive_sum, 0, +, 1)
EMU_PREFIX(simd_prefix_exclusive_sum, 0, +, 0)
EMU_PREFIX(simd_prefix_inclusive_product, 1, *, 1)
EMU_PREFIX(simd_prefix_exclusive_product, 1, *, 0)
#undef EMU_PREFIX

// `lane` is this lane's number; the expression is the number of the lane to take from.
#define EMU_SHUFFLE(name, parameter, ...)                                                              \
    template <class T>                                                                                 \
    EMU_UNCHECKED inline emu_lane_value<T> name(T value, ushort parameter, EMU_SITE) {                 \
        const auto lanes = emu_meet(value, EMU_HERE(#name));                                           \
        const unsigned lane = lanes.lane();                                                            \
        (void)lane;                                                                                    \
        return lanes.at(__VA_ARGS__);                                                                  \
    }
EMU_SHUFFLE(simd_shuffle, from, from)
EMU_SHUFFLE(simd_broadcast, from, from)
EMU_SHUFFLE(simd_shuffle_xor, mask, lane ^ mask)
EMU_SHUFFLE(simd_shuffle_rotate_down, by, (lane + by) & 31)
EMU_SHUFFLE(simd_shuffle_rotate_up, by, (lane - by) & 31)
EMU_SHUFFLE(quad_shuffle, from, (lane & ~3u) | (from & 3))
EMU_SHUFFLE(quad_broadcast, from, (lane & ~3u) | (from & 3))
EMU_SHUFFLE(quad_shuffle_xor, mask, (lane & ~3u) | ((lane ^ mask) & 3))
EMU_SHUFFLE(quad_shuffle_down, by, (lane & 3) + by < 4 ? lane + by : lane)
EMU_SHUFFLE(quad_shuffle_up, by, (lane & 3) >= by ? lane - by : lane)
EMU_SHUFFLE(simd_shuffle_down, by, lane + by < 32 ? lane + by : lane)
EMU_SHUFFLE(simd_shuffle_up, by, lane >= by ? lane - by : lane)
#undef EMU_SHUFFLE

template <class T>
EMU_UNCHECKED inline emu_lane_value<T> simd_broadcast_first(T value, EMU_SITE) {
    const auto lanes = emu_meet(value, EMU_HERE("simd_broadcast_first"));
    return lanes.read(__builtin_ctz(lanes.lanes.active));
}
template <class T>
struct emu_filled {
    T value, fill;
};
template <class T>
EMU_UNCHECKED inline emu_lane_value<T> simd_shuffle_and_fill_up(T value, T fill, ushort by, EMU_SITE) {
    const auto lanes = emu_meet(emu_filled<T>{value, fill}, EMU_HERE("simd_shuffle_and_fill_up"));
    const unsigned lane = lanes.lane();
    return lane >= by ? lanes.at(lane - by).value : lanes.at((lane + 32 - by) & 31).fill;
}
template <class T>
EMU_UNCHECKED inline emu_lane_value<T> simd_shuffle_and_fill_down(T value, T fill, ushort by, EMU_SITE) {
    const auto lanes = emu_meet(emu_filled<T>{value, fill}, EMU_HERE("simd_shuffle_and_fill_down"));
    const unsigned lane = lanes.lane();
    return lane + by < 32 ? lanes.at(lane + by).value : lanes.at((lane + by) & 31).fill;
}

struct simd_vote {
    typedef ulong vote_t;
    ulong lanes, everyone;
    explicit constexpr operator vote_t() const { return lanes; }
    bool all() const { return lanes == everyone; }
    bool any() const { return lanes != 0; }
};
EMU_UNCHECKED inline simd_vote simd_ballot(bool yes, EMU_SITE) {
    const auto lanes = emu_meet((int)yes, EMU_HERE("simd_ballot"));
    ulong votes = 0;
    for (unsigned i = 0; i < 32; i++)
        if (lanes.active(i) && lanes.read(i)) votes |= 1ul << i;
    return {votes, lanes.lanes.active};
}
EMU_UNCHECKED inline bool simd_all(bool yes, EMU_SITE) {
    const auto lanes = emu_meet((int)yes, EMU_HERE("simd_all"));
    for (unsigned i = 0; i < 32; i++)
        if (lanes.active(i) && !lanes.read(i)) return false;
    return true;
}
EMU_UNCHECKED inline bool simd_any(bool yes, EMU_SITE) {
    const auto lanes = emu_meet((int)yes, EMU_HERE("simd_any"));
    for (unsigned i = 0; i < 32; i++)
        if (lanes.active(i) && lanes.read(i)) return true;
    return false;
}
EMU_UNCHECKED inline bool simd_is_first(EMU_SITE) {
    const auto lanes = emu_meet(0, EMU_HERE("simd_is_first"));
    return (unsigned)__builtin_ctz(lanes.lanes.active) == lanes.lane();
}
EMU_UNCHECKED inline simd_vote simd_active_threads_mask(EMU_SITE) {
    const auto lanes = emu_meet(0, EMU_HERE("simd_active_threads_mask"));
    return {lanes.lanes.active, lanes.lanes.active};
}

// ---- 8x8 matrices: two neighbours of one row for each lane. Apple does not document which; kernels that look at
// thread_elements() rely on this arrangement, MLX's own among them.

EMU_UNCHECKED inline unsigned emu_lane() { return emu_ids()->lane; }
inline unsigned emu_row(unsigned lane) { return (lane / 4 & 4) + lane / 2 % 4; }
inline unsigned emu_column(unsigned lane) { return (lane / 4 & 2) * 2 + lane % 2 * 2; }
inline unsigned emu_holder(unsigned row, unsigned column) {
    return (row & 4) << 2 | (column & 4) << 1 | (row & 3) << 1 | (column >> 1 & 1);
}

template <class T, int Columns = 8, int Rows = 8>
struct simdgroup_matrix {
    static_assert(Columns == 8 && Rows == 8, "simdgroup matrices are 8x8");
    static_assert(is_floating_point_v<T> && sizeof(T) <= 4, "simdgroup matrices hold float, half or bfloat");
    typedef vec<T, 2> storage_type;
    storage_type elements;
    simdgroup_matrix() = default;
    explicit simdgroup_matrix(T diagonal) {
        const unsigned lane = emu_lane();
        for (unsigned k = 0; k < 2; k++) elements[k] = emu_row(lane) == emu_column(lane) + k ? diagonal : (T)0.0f;
    }
    storage_type& thread_elements() { return elements; }
    const storage_type& thread_elements() const { return elements; }
};
typedef simdgroup_matrix<float> simdgroup_float8x8;
typedef simdgroup_matrix<half> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat> simdgroup_bfloat8x8;

template <class T, int Columns = 8, int Rows = 8, class V = T>
inline simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(V value) {
    simdgroup_matrix<T, Columns, Rows> matrix;
    for (int k = 0; k < 2; k++) matrix.elements[k] = (T)value;
    return matrix;
}

// Inlined, so that a report about the memory names the caller's line.
#define EMU_MATRIX_MEMORY(SPACE)                                                                                \
    template <class T>                                                                                          \
    EMU_INLINE void simdgroup_load(simdgroup_matrix<T>& to, const SPACE T* from, ulong per_row = 8,             \
                                   ulong2 origin = ulong2{0, 0}, bool transpose = false, EMU_SITE) {            \
        emu_meet(0, EMU_HERE("simdgroup_load"));                                                                \
        const ulong row = emu_row(emu_lane()), column = emu_column(emu_lane());                                 \
        for (ulong k = 0; k < 2; k++) {                                                                         \
            const ulong r = transpose ? column + k : row, c = transpose ? row : column + k;                     \
            to.elements[k] = from[(origin.y + r) * per_row + origin.x + c];                                     \
        }                                                                                                       \
    }                                                                                                           \
    template <class T>                                                                                          \
    EMU_INLINE void simdgroup_store(simdgroup_matrix<T> from, SPACE T* to, ulong per_row = 8,                   \
                                    ulong2 origin = ulong2{0, 0}, bool transpose = false, EMU_SITE) {           \
        emu_meet(0, EMU_HERE("simdgroup_store"));                                                               \
        const ulong row = emu_row(emu_lane()), column = emu_column(emu_lane());                                 \
        for (ulong k = 0; k < 2; k++) {                                                                         \
            const ulong r = transpose ? column + k : row, c = transpose ? row : column + k;                     \
            to[(origin.y + r) * per_row + origin.x + c] = from.elements[k];                                     \
        }                                                                                                       \
    }
#ifdef EMU_STRICT_BFLOAT
#define EMU_PLAIN_SPACE
EMU_MATRIX_MEMORY(EMU_PLAIN_SPACE)
#else
EMU_MATRIX_MEMORY(EMU_DEVICE)
#ifdef EMU_ADDRESS_SPACES
EMU_MATRIX_MEMORY(EMU_THREADGROUP)
#endif
#endif
#undef EMU_MATRIX_MEMORY

template <class D, class A, class B, class C>
EMU_UNCHECKED inline void simdgroup_multiply_accumulate(simdgroup_matrix<D>& d, const simdgroup_matrix<A>& a,
                                                        const simdgroup_matrix<B>& b, const simdgroup_matrix<C>& c,
                                                        EMU_SITE) {
    struct Part {
        A a[2];
        B b[2];
    };
    const Part mine{{a.elements[0], a.elements[1]}, {b.elements[0], b.elements[1]}};
    const auto lanes = emu_meet(mine, EMU_HERE("simdgroup_multiply_accumulate"));
    const unsigned row = emu_row(lanes.lane()), column = emu_column(lanes.lane());
    float sums[2] = {(float)c.elements[0], (float)c.elements[1]};
    for (unsigned i = 0; i < 8; i++) {
        const float left = (float)lanes.at(emu_holder(row, i)).a[i & 1];
        const Part right = lanes.at(emu_holder(i, column));
        sums[0] += left * (float)right.b[0];
        sums[1] += left * (float)right.b[1];
    }
    for (int k = 0; k < 2; k++) d.elements[k] = (D)sums[k];
}
template <class D, class A, class B>
inline void simdgroup_multiply(simdgroup_matrix<D>& d, const simdgroup_matrix<A>& a, const simdgroup_matrix<B>& b,
                               EMU_SITE) {
    const auto zero = make_filled_simdgroup_matrix<D>(0.0f);
    simdgroup_multiply_accumulate(d, a, b, zero, file_, line_, column_);
}

}  // namespace metal
