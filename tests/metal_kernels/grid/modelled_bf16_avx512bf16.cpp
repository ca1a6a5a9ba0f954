#include "cpu/pairs_avx512.h"
#include "tile_model.h"
// The kernels are written in terms of what the lines above define.
#include "cpu/bf16_matmul_tiles.h"
#include "modelled.h"

namespace grid {
const glasschat::cpu::Bf16Kernels kModelledAvx512Bf16 = glasschat::cpu::kBf16Tiles;
}
