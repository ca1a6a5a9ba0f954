#include "cpu/dots_avx512.h"
#include "tile_model.h"
// The kernels are written in terms of what the lines above define.
#include "cpu/int8_matmul_tiles.h"
#include "modelled.h"

namespace grid {
const glasschat::cpu::Int8Kernels kModelledAvx512Int8 = glasschat::cpu::kInt8Tiles;
}
