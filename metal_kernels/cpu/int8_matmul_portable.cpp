#include "cpu/dots_portable.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/int8_matmul_kernels.h"

namespace glasschat::cpu {
const Int8Kernels kPortableInt8 = kInt8;
}
