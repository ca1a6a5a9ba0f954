#include "cpu/dots_avx512.h"
#include "cpu/tiles_amx.h"
// The probes are written in terms of what the lines above define.
#include "cpu/probe_tiles.h"

namespace glasschat::cpu {
const ProbeKernels kAmxProbe = kTileProbe;
const Bf16Probe kAmxBf16Probe = kTilePairsProbe;
}  // namespace glasschat::cpu
