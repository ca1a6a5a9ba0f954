// The Python module metal_kernels._native. Its types are described in _native.pyi.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <string_view>
#include <vector>

#include "cpu/features.h"
#include "cpu/pool.h"
#include "cpu/probe.h"
#include "mlx/ops.h"
#include "mlx/version.h"

namespace nb = nanobind;
namespace mx = mlx::core;
namespace cpu = glasschat::cpu;

namespace glasschat {
// Each in the file of its name.
void bind_packed_linear(nb::module_& module);
void bind_paged_attention(nb::module_& module);
void bind_rows(nb::module_& module);
void bind_decoder_layer(nb::module_& module);
void bind_launches(nb::module_& module);
void bind_launch_on_gpu(nb::module_& module);
void bind_gpu(nb::module_& module);
}  // namespace glasschat

NB_MODULE(_native, module) {
    module.attr("built_for") = std::to_string(MLX_VERSION_MAJOR) + "." + std::to_string(MLX_VERSION_MINOR) + "." +
                               std::to_string(MLX_VERSION_PATCH);
    module.attr("runs_on") = mx::version();
    module.def("smoke", [](const mx::array& x) { return mx::add(x, mx::array(1, x.dtype())); }, nb::arg("x"));

    module.def("level", [] { return cpu::name(cpu::level()); });
    module.def("supported_levels", [] {
        std::vector<std::string_view> names;
        for (const cpu::Level each : cpu::supported_levels()) {
            names.push_back(cpu::name(each));
        }
        return names;
    });
    module.def("set_level", &cpu::set_level, nb::arg("name"));

    module.def("threads", &cpu::threads);
    // It may wait for a job, and a job's caller for the interpreter.
    module.def("set_threads", &cpu::set_threads, nb::arg("count"), nb::call_guard<nb::gil_scoped_release>());

    module.def("read_bandwidth", &cpu::read_bandwidth, nb::arg("bytes"), nb::arg("passes"),
               nb::call_guard<nb::gil_scoped_release>());
    module.def("float_peak", &cpu::float_peak, nb::call_guard<nb::gil_scoped_release>());
    module.def("bf16_peak", &cpu::bf16_peak, nb::call_guard<nb::gil_scoped_release>());
    module.def("int8_peak", &cpu::int8_peak, nb::call_guard<nb::gil_scoped_release>());

    glasschat::bind_packed_linear(module);
    glasschat::bind_paged_attention(module);
    glasschat::bind_rows(module);
    glasschat::bind_decoder_layer(module);
    glasschat::bind_launches(module);
    glasschat::bind_launch_on_gpu(module);
    glasschat::bind_gpu(module);
}
