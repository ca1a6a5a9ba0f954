#include "cpu/lanes_avx512.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/draw_kernels.h"

namespace glasschat::cpu {
const DrawKernels kAvx512Draw = kDraw;
}
