#include "cpu/lanes_portable.h"
// The kernels are written in terms of what the line above defines.
#include "cpu/attention_kernels.h"

namespace glasschat::cpu {
const AttentionKernels kPortableAttention = kAttention;
}
