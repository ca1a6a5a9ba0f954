// The tile registers through the processor's own instructions. Only for files that are compiled for AMX.
//
// Not by the compilers' intrinsics: those of GCC 12 do not say that they read memory, so that what was stored just before
// may be stored after, and _tile_loadconfig drops most of what it is given.
#pragma once

#include "cpu/tiles.h"

namespace glasschat::cpu {
namespace {

struct Tiles {
    static void configure(const TileConfig& config) { asm volatile("ldtilecfg %0" : : "m"(config)); }

    static void release() { asm volatile("tilerelease"); }

    template <int T>
    static void zero() {
        asm volatile("tilezero %%tmm%c0" : : "i"(T));
    }

    template <int T>
    static void load(const void* from, int64_t stride) {
        asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T) : "memory");
    }

    template <int T>
    static void store(void* to, int64_t stride) {
        asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(T) : "memory");
    }

    template <int Sum, int Left, int Right>
    static void plus_bytes() {
        asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(Left), "i"(Right));
    }

    template <int Sum, int Left, int Right>
    static void plus_pairs() {
        asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(Left), "i"(Right));
    }
};

}  // namespace
}  // namespace glasschat::cpu
