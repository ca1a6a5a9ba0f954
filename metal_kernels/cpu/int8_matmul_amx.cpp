#include "cpu/dots_avx512.h"
#include "cpu/tiles_amx.h"
// The kernels are written in terms of what the lines above define.
#include "cpu/int8_matmul_tiles.h"

namespace glasschat::cpu {
const Int8Kernels kAmxInt8 = kInt8Tiles;
}
