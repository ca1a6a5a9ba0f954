// <metal_atomic>. A thread runs alone between two meetings, so plain operations are atomic; the runtime is told of each.
#pragma once

#include "simdgroup.h"

namespace metal {

enum memory_order { memory_order_relaxed };

template <class T>
struct atomic {
    static_assert(is_same_v<T, int> || is_same_v<T, uint> || is_same_v<T, bool> || is_same_v<T, float> ||
                      is_same_v<T, ulong>, "atomics are int, uint, bool, float or ulong");
    T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
typedef atomic<ulong> atomic_ulong;

#define EMU_ATOMIC(SPACE, name, ...)                                                                        \
    template <class T, class U>                                                                             \
    EMU_UNCHECKED inline T name(volatile SPACE atomic<T>* at, U operand, memory_order, EMU_SITE) {          \
        const EmuSite site = EMU_HERE(#name);                                                               \
        emu_atomic((const void*)&at->value, sizeof(T), 1, &site);                                           \
        const T old = at->value, x = (T)operand;                                                            \
        at->value = __VA_ARGS__;                                                                            \
        return old;                                                                                         \
    }
#define EMU_ATOMICS(SPACE)                                                                                  \
    EMU_ATOMIC(SPACE, atomic_fetch_add_explicit, old + x)                                                   \
    EMU_ATOMIC(SPACE, atomic_fetch_sub_explicit, old - x)                                                   \
    EMU_ATOMIC(SPACE, atomic_fetch_max_explicit, old < x ? x : old)                                         \
    EMU_ATOMIC(SPACE, atomic_fetch_min_explicit, x < old ? x : old)                                         \
    EMU_ATOMIC(SPACE, atomic_fetch_or_explicit, old | x)                                                    \
    EMU_ATOMIC(SPACE, atomic_fetch_and_explicit, old & x)                                                   \
    EMU_ATOMIC(SPACE, atomic_fetch_xor_explicit, old ^ x)                                                   \
    EMU_ATOMIC(SPACE, atomic_exchange_explicit, x)                                                          \
    template <class T>                                                                                      \
    EMU_UNCHECKED inline T atomic_load_explicit(const volatile SPACE atomic<T>* at, memory_order, EMU_SITE) { \
        const EmuSite site = EMU_HERE("atomic_load_explicit");                                              \
        emu_atomic((const void*)&at->value, sizeof(T), 0, &site);                                           \
        return at->value;                                                                                   \
    }                                                                                                       \
    template <class T, class U>                                                                             \
    EMU_UNCHECKED inline void atomic_store_explicit(volatile SPACE atomic<T>* at, U operand, memory_order,  \
                                                    EMU_SITE) {                                             \
        const EmuSite site = EMU_HERE("atomic_store_explicit");                                             \
        emu_atomic((const void*)&at->value, sizeof(T), 1, &site);                                           \
        at->value = (T)operand;                                                                             \
    }                                                                                                       \
    template <class T>                                                                                      \
    EMU_UNCHECKED inline bool atomic_compare_exchange_weak_explicit(volatile SPACE atomic<T>* at, T* expected, \
                                                                    T desired, memory_order, memory_order,  \
                                                                    EMU_SITE) {                             \
        const EmuSite site = EMU_HERE("atomic_compare_exchange_weak_explicit");                             \
        emu_atomic((const void*)&at->value, sizeof(T), 1, &site);                                           \
        const T old = at->value;                                                                            \
        if (old == *expected) {                                                                             \
            at->value = desired;                                                                            \
            return true;                                                                                    \
        }                                                                                                   \
        *expected = old;                                                                                    \
        return false;                                                                                       \
    }
EMU_ATOMICS(EMU_DEVICE)
#ifdef EMU_ADDRESS_SPACES
EMU_ATOMICS(EMU_THREADGROUP)
#endif
#undef EMU_ATOMICS
#undef EMU_ATOMIC

}  // namespace metal
