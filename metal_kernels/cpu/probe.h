// What this machine can do at most: the limits that the kernels' speeds are compared with.
#pragma once

#include <cstdint>

namespace glasschat::cpu {

// Bytes a second that all threads of the pool read of a buffer of `bytes`, the best of several passes over it. Take one
// that is larger than the caches are meant to help.
double read_bandwidth(int64_t bytes, int passes);

// Multiplications and additions a second, each counted as one, that all threads do in registers, the best of several
// tries of a few milliseconds: of float32, of bfloat16 into float32 (of float32 where there is no instruction for it), or
// of bytes into int32.
double float_peak();
double bf16_peak();
double int8_peak();

// The kernels of one instruction set, for one thread.
struct ProbeKernels {
    // Reads it all, and returns a sum that depends on it.
    float (*read)(const uint8_t* from, int64_t bytes);
    // Go round a loop; what one round does is `float_operations` and `int8_operations`. The result depends on all of it.
    float (*multiply)(int64_t rounds);
    float (*multiply_int8)(int64_t rounds);
    int float_operations;
    int int8_operations;
};

// Like those of ProbeKernels.
struct Bf16Probe {
    float (*multiply)(int64_t rounds);
    int operations;
};

extern const Bf16Probe kAvx512Bf16Probe;
extern const Bf16Probe kAmxBf16Probe;
extern const ProbeKernels kPortableProbe;
extern const ProbeKernels kAvx2Probe;
extern const ProbeKernels kAvx512Probe;
extern const ProbeKernels kAvx512VnniProbe;
extern const ProbeKernels kAmxProbe;
extern const ProbeKernels kNeonProbe;
extern const ProbeKernels kDotprodProbe;
extern const ProbeKernels kI8mmProbe;

}  // namespace glasschat::cpu
