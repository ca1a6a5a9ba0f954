#include "cpu/lanes_avx2.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/attention_kernels.h"

namespace glasschat::cpu {
const AttentionKernels kAvx2Attention = kAttention;
}
