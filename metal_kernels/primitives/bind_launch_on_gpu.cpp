#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>

#include "mlx/transforms.h"
#include "primitives/arrays.h"
#include "primitives/gpu.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace glasschat {

namespace {

namespace mx = mlx::core;

// Runs one launch on the very memory of these arrays, and waits for it.
void launch_on_gpu(const metal::Launch& launch, const std::string& type, const std::vector<mx::array>& arrays,
                   const std::vector<int>& written) {
    need(gpu::in_use(), "there is no Metal GPU to launch a kernel on");
    std::vector<gpu::Slot> slots;
    for (int i = 0; i < static_cast<int>(arrays.size()); i++) {
        need(arrays[i].flags().row_contiguous, "a launch's arrays lie in memory without gaps");
        const bool changed = std::find(written.begin(), written.end(), i) != written.end();
        slots.push_back({changed ? gpu::Slot::changed : gpu::Slot::input, i});
    }
    // An operation of MLX's graph has an output: this one is not written.
    mx::array done(mx::Shape{1}, mx::uint32,
                   std::make_shared<gpu::Launches>(gpu::stream(), "Launch", metal::type_named(type),
                                                   std::vector<gpu::Step>{{launch, slots}}),
                   arrays);
    const nb::gil_scoped_release no_gil;
    mx::eval(done);
}

}  // namespace

// For the tests that compare a kernel on the GPU with the same kernel elsewhere.
void bind_launch_on_gpu(nb::module_& module) {
    module.def("launch_on_gpu", &launch_on_gpu, "launch"_a, "type"_a, "arrays"_a, "written"_a);
}

}  // namespace glasschat
