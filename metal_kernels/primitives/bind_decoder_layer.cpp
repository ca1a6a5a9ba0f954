#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "primitives/decoder_layer.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace glasschat {

void bind_decoder_layer(nb::module_& module) {
    nb::class_<cpu::LayerWeights>(module, "PackedLayer");
    module.def(
        "pack_layer",
        [](const mx::array& attention_norm, std::vector<Matrix> qkv, Matrix out, const mx::array& mlp_norm,
           std::vector<Matrix> gate_up, Matrix down, int64_t heads, int64_t kv_heads, int64_t size, float theta,
           float eps) {
            return pack_layer(attention_norm, std::move(qkv), std::move(out), mlp_norm, std::move(gate_up),
                              std::move(down), {heads, kv_heads, size, theta, eps});
        },
        "attention_norm"_a, "qkv"_a, "out"_a, "mlp_norm"_a, "gate_up"_a, "down"_a, "heads"_a, "kv_heads"_a, "size"_a,
        "theta"_a, "eps"_a);
    module.def(
        "decoder_layer",
        [](const mx::array& x, const PackedLayer& layer, const Store& keys, const Store& values, const Layout& layout,
           std::string_view activations) {
            return decoder_layer(x, layer, keys, values, layout, rounding_named(activations));
        },
        "x"_a, "layer"_a, "keys"_a, "values"_a, "layout"_a, "activations"_a);
}

}  // namespace glasschat
