#include "cpu/pairs_avx512.h"
#include "cpu/tiles_amx.h"
// The kernels are written in terms of what the lines above define.
#include "cpu/bf16_matmul_tiles.h"

namespace glasschat::cpu {
const Bf16Kernels kAmxBf16 = kBf16Tiles;
}
