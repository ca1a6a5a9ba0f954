// Which instruction set's kernels are in force.
#pragma once

#include <initializer_list>

#include "cpu/features.h"

namespace glasschat::cpu {

// The variant for the highest of some levels that is in force; variants stand in rising order of their levels.
template <class Kernels>
struct Variant {
    Level from;
    const Kernels& kernels;
};

template <class Kernels>
const Kernels& in_force(std::initializer_list<Variant<Kernels>> variants) {
    const Variant<Kernels>* best = variants.begin();
    for (const Variant<Kernels>& each : variants) {
        best = level() >= each.from ? &each : best;
    }
    return best->kernels;
}

// The kernels of a kind that has one for every vector width, and of one that also multiplies bytes.
#define GLASSCHAT_VARIANT(name, Type, kind) {Level::name, k##Type##kind}
#if defined(__x86_64__)
#define GLASSCHAT_IN_FORCE(kind)                                                                              \
    in_force<kind##Kernels>({GLASSCHAT_VARIANT(portable, Portable, kind), GLASSCHAT_VARIANT(avx2, Avx2, kind), \
                             GLASSCHAT_VARIANT(avx512, Avx512, kind)})
#define GLASSCHAT_DOTS_IN_FORCE(kind)                                                                         \
    in_force<kind##Kernels>({GLASSCHAT_VARIANT(portable, Portable, kind), GLASSCHAT_VARIANT(avx2, Avx2, kind), \
                             GLASSCHAT_VARIANT(avx512, Avx512, kind),                                         \
                             GLASSCHAT_VARIANT(avx512vnni, Avx512Vnni, kind), GLASSCHAT_VARIANT(amx, Amx, kind)})
#elif defined(__aarch64__)
#define GLASSCHAT_IN_FORCE(kind) \
    in_force<kind##Kernels>({GLASSCHAT_VARIANT(portable, Portable, kind), GLASSCHAT_VARIANT(neon, Neon, kind)})
#define GLASSCHAT_DOTS_IN_FORCE(kind)                                                                         \
    in_force<kind##Kernels>({GLASSCHAT_VARIANT(portable, Portable, kind), GLASSCHAT_VARIANT(neon, Neon, kind), \
                             GLASSCHAT_VARIANT(dotprod, Dotprod, kind), GLASSCHAT_VARIANT(i8mm, I8mm, kind)})
#else
#define GLASSCHAT_IN_FORCE(kind) in_force<kind##Kernels>({GLASSCHAT_VARIANT(portable, Portable, kind)})
#define GLASSCHAT_DOTS_IN_FORCE(kind) GLASSCHAT_IN_FORCE(kind)
#endif

}  // namespace glasschat::cpu
