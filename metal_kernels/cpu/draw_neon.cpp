#include "cpu/lanes_neon.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/draw_kernels.h"

namespace glasschat::cpu {
const DrawKernels kNeonDraw = kDraw;
}
