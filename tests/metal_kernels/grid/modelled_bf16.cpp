#include "pairs_portable.h"
#include "tile_model.h"
// The kernels are written in terms of what the lines above define.
#include "cpu/bf16_matmul_tiles.h"
#include "modelled.h"

namespace grid {
const glasschat::cpu::Bf16Kernels kModelledPortableBf16 = glasschat::cpu::kBf16Tiles;
}
