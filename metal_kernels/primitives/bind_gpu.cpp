#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>

#include "primitives/arrays.h"
#include "primitives/gpu.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace glasschat {

namespace {

void need_gpu() {
    need(gpu::in_use(), "this operation is for Metal GPUs, and MLX's default device is none");
}

}  // namespace

// What only GPUs have kernels for: CPU kernels multiply packed matrices, and add where they normalize a whole layer.
void bind_gpu(nb::module_& module) {
    module.def("gpu_in_use", &gpu::in_use);
    module.def(
        "quantized_linear",
        [](const mlx::core::array& x, const mlx::core::array& words, const mlx::core::array& scales,
           const mlx::core::array& biases, int bits, int group_size, const std::optional<mlx::core::array>& bias) {
            need_gpu();
            return gpu::linear(x, {words, scales, biases, bits, group_size}, bias);
        },
        "x"_a, "words"_a, "scales"_a, "biases"_a, "bits"_a, "group_size"_a, "bias"_a = nb::none());
    module.def(
        "gather_quantized_linear",
        [](const mlx::core::array& x, const mlx::core::array& words, const mlx::core::array& scales,
           const mlx::core::array& biases, int bits, int group_size, const mlx::core::array& experts,
           const mlx::core::array& sources) {
            need_gpu();
            return gpu::gather_linear(x, {words, scales, biases, bits, group_size}, experts, sources);
        },
        "x"_a, "words"_a, "scales"_a, "biases"_a, "bits"_a, "group_size"_a, "experts"_a, "sources"_a);
    module.def(
        "add_rms_norm",
        [](const mlx::core::array& x, const mlx::core::array& added, const mlx::core::array& weight, float eps) {
            need_gpu();
            return gpu::add_rms_norm(x, added, weight, eps);
        },
        "x"_a, "added"_a, "weight"_a, "eps"_a);
}

}  // namespace glasschat
