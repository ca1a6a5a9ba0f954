#include "cpu/lanes_neon.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/rows_kernels.h"

namespace glasschat::cpu {
const RowsKernels kNeonRows = kRows;
}
