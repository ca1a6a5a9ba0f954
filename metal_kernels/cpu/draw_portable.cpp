#include "cpu/lanes_portable.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/draw_kernels.h"

namespace glasschat::cpu {
const DrawKernels kPortableDraw = kDraw;
}
