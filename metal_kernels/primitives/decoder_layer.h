// A whole decoder layer as one operation of MLX's graph; see cpu/decoder_layer.h.
#pragma once

#include <memory>
#include <vector>

#include "cpu/decoder_layer.h"
#include "primitives/packed_linear.h"
#include "primitives/paged_attention.h"

namespace glasschat {

// A layer's numbers besides its matrices.
struct LayerShape {
    int64_t heads, kv_heads, size;
    float theta, eps;
};

using PackedLayer = std::shared_ptr<const cpu::LayerWeights>;

// Throws std::invalid_argument for norms and matrices that do not make a layer.
PackedLayer pack_layer(const mx::array& attention_norm, std::vector<Matrix> qkv, Matrix out, const mx::array& mlp_norm,
                       std::vector<Matrix> gate_up, Matrix down, const LayerShape& shape);

// x [T, E] to the layer's output [T, E]. This step's keys and values are in their slots once that is evaluated: the
// arrays of both are written in place, whoever else holds them. Throws std::invalid_argument like packed_linear and
// write_kv.
mx::array decoder_layer(const mx::array& x, const PackedLayer& layer, const Store& keys, const Store& values,
                        const Layout& layout, Rounding rounding);

}  // namespace glasschat
