#include "cpu/dots_avx512.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/int8_matmul_kernels.h"

namespace glasschat::cpu {
const Int8Kernels kAvx512VnniInt8 = kInt8;
}
