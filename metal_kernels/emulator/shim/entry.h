// How the rewritten source is entered, and where its threadgroup variables and function constants live.
#pragma once

#include "atomics.h"
#include "constants.h"

namespace metal {
template <class T>
inline bool is_function_constant_defined(const T& constant) {
    return emu_constant_is_set(&constant);
}
}  // namespace metal

namespace emulator {

// One object for each declaration and type, and for each threadgroup.
template <class T, int Declaration, class Kernel>
struct Key {
    static constexpr char value = 0;
};
template <class Kernel>
using KernelKey = Key<void, 0, Kernel>;

// A kernel has all that it declares, whether a thread comes by or not: it is counted when the library is loaded.
template <class T, int Declaration, class Kernel>
struct Declared {
    static const int counted;
};
template <class T, int Declaration, class Kernel>
const int Declared<T, Declaration, Kernel>::counted = (emu_declare(&KernelKey<Kernel>::value, sizeof(T)), 0);

template <class Kernel>
EMU_INLINE void enter() {
    emu_enter(&KernelKey<Kernel>::value);
}

template <class T, int Declaration, class Kernel>
EMU_INLINE EMU_THREADGROUP T& threadgroup_variable() {
    (void)&Declared<T, Declaration, Kernel>::counted;
    return *(EMU_THREADGROUP T*)emu_threadgroup_variable(&Key<T, Declaration, Kernel>::value, sizeof(T),
                                                         alignof(T) < 16 ? 16 : alignof(T));
}

// The type of parameter I of a kernel.
template <int I, class Kernel>
struct ParameterOf;
template <class P, class... More>
struct ParameterOf<0, void (*)(P, More...)> {
    typedef P type;
};
template <int I, class P, class... More>
struct ParameterOf<I, void (*)(P, More...)> : ParameterOf<I - 1, void (*)(More...)> {};
template <int I, class Kernel>
using Parameter = typename ParameterOf<I, Kernel>::type;

// Arguments as the kernel declares them.
template <class P>
struct Argument {
    static P buffer(int index) { return (P)emu_buffer(index); }
    static P threadgroup(int index) { return (P)emu_threadgroup_buffer(index); }
    EMU_UNCHECKED static P position(const unsigned* values) {
        if constexpr (metal::emu_size<P> == 1) {
            return (P)values[0];
        } else {
            P position;
            for (int i = 0; i < metal::emu_size<P>; i++) position[i] = values[i];
            return position;
        }
    }
};
template <class P>
struct Argument<P&> {
    static P& buffer(int index) { return *(P*)emu_buffer(index); }
    static P& threadgroup(int index) { return *(P*)emu_threadgroup_buffer(index); }
};

}  // namespace emulator
