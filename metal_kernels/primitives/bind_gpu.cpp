#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <memory>

#include "primitives/arrays.h"
#include "primitives/gpu.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace glasschat {

namespace {

using Bytes = nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>>;

// Calls run(launch, [(bytes, written)]) for every launch. It must not raise: nobody is there to catch it.
gpu::Runner calling(nb::object run) {
    // It is let go of on any thread, perhaps one without the interpreter's lock.
    const std::shared_ptr<nb::object> held(new nb::object(std::move(run)), [](nb::object* object) {
        const nb::gil_scoped_acquire gil;
        delete object;
    });
    return [held](const metal::Launch& launch, const std::vector<gpu::Memory>& memory) {
        const nb::gil_scoped_acquire gil;
        try {
            nb::list buffers;
            for (const gpu::Memory& each : memory) {
                // Not a copy of the memory, which it would be by itself.
                const nb::object bytes = nb::cast(Bytes(each.bytes, {each.size}), nb::rv_policy::reference);
                buffers.append(nb::make_tuple(bytes, each.written));
            }
            (*held)(launch, buffers);
        } catch (nb::python_error& error) {
            error.discard_as_unraisable("running a launch in place of a GPU");
        }
    };
}

void need_gpu() {
    need(gpu::in_use(), "this operation is for Metal GPUs, and MLX's default device is none");
}

}  // namespace

// What only GPUs have kernels for: those of the CPU multiply packed matrices.
void bind_gpu(nb::module_& module) {
    module.def("gpu_in_use", &gpu::in_use);
    module.def(
        "metal_kernels_in",
        [](std::string directory, std::string library) { gpu::kernels_in({std::move(directory), std::move(library)}); },
        "directory"_a, "library"_a);
    module.def("metal_library", &gpu::library_in_use);
    module.def(
        "run_launches_by", [](nb::object run) { gpu::run_by(run.is_none() ? gpu::Runner() : calling(run)); },
        "run"_a.none());
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
        "gpu_draw",
        [](const mlx::core::array& x, const std::optional<mlx::core::array>& listed, const mlx::core::array& keys,
           const mlx::core::array& temperatures) {
            need_gpu();
            return gpu::draw(x, listed, keys, temperatures);
        },
        "x"_a, "listed"_a.none(), "keys"_a, "temperatures"_a);
}

}  // namespace glasschat
