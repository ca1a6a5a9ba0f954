#include "cpu/dots_neon.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/int8_matmul_kernels.h"

namespace glasschat::cpu {
const Int8Kernels kDotprodInt8 = kInt8;
}
