// The kernels for AMX on the model of its registers, with the vectors of plain C++ and with those of AVX-512.
#pragma once

#include "cpu/bf16_matmul.h"
#include "cpu/int8_matmul.h"
#include "cpu/probe.h"

namespace grid {

extern const glasschat::cpu::Int8Kernels kModelledPortableInt8;
extern const glasschat::cpu::Bf16Kernels kModelledPortableBf16;
// Where AVX512-BF16 is in force.
extern const glasschat::cpu::Int8Kernels kModelledAvx512Int8;
extern const glasschat::cpu::Bf16Kernels kModelledAvx512Bf16;

extern const glasschat::cpu::ProbeKernels kModelledProbe;
extern const glasschat::cpu::Bf16Probe kModelledBf16Probe;

}  // namespace grid
