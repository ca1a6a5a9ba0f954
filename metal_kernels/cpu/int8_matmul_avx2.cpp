#include "cpu/dots_avx2.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/int8_matmul_kernels.h"

namespace glasschat::cpu {
const Int8Kernels kAvx2Int8 = kInt8;
}
