#include "cpu/lanes_avx512.h"
#include "cpu/probe.h"
#include "cpu/unroll.h"

namespace glasschat::cpu {
namespace {

constexpr int kChains = 12;

float multiply(int64_t rounds) {
    volatile short near_one = 0x3f80;
    const __m512bh factor = (__m512bh)_mm512_set1_epi16(near_one);
    __m512 sums[kChains];
    unroll<kChains>([&](auto i) GLASSCHAT_INLINE { sums[i] = _mm512_set1_ps(0.1f * i); });
    for (int64_t round = 0; round < rounds; round++) {
        unroll<kChains>([&](auto i) GLASSCHAT_INLINE { sums[i] = _mm512_dpbf16_ps(sums[i], factor, factor); });
    }
    __m512 total = _mm512_setzero_ps();
    unroll<kChains>([&](auto i) GLASSCHAT_INLINE { total = _mm512_add_ps(total, sums[i]); });
    return _mm512_reduce_add_ps(total);
}

}  // namespace

const Bf16Probe kAvx512Bf16Probe = {multiply, kChains * 32 * 2};

}  // namespace glasschat::cpu
