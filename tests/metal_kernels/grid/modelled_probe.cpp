#include "cpu/dots_portable.h"
#include "tile_model.h"
// The probes are written in terms of what the lines above define.
#include "cpu/probe_tiles.h"
#include "modelled.h"

namespace grid {
const glasschat::cpu::ProbeKernels kModelledProbe = glasschat::cpu::kTileProbe;
const glasschat::cpu::Bf16Probe kModelledBf16Probe = glasschat::cpu::kTilePairsProbe;
}  // namespace grid
