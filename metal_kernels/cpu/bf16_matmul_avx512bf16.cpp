#include "cpu/pairs_avx512.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/bf16_matmul_kernels.h"

namespace glasschat::cpu {
const Bf16Kernels kAvx512Bf16 = kBf16;
}
