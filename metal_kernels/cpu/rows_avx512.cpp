#include "cpu/lanes_avx512.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/rows_kernels.h"

namespace glasschat::cpu {
const RowsKernels kAvx512Rows = kRows;
}
