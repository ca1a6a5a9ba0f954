#include "cpu/dots_portable.h"
// The probes are written in terms of what the line above defines.
#include "cpu/probe_kernels.h"

namespace glasschat::cpu {
const ProbeKernels kPortableProbe = kProbe;
}
