#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "primitives/expert_linear.h"
#include "primitives/packed_linear.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace glasschat {

void bind_packed_linear(nb::module_& module) {
    nb::class_<cpu::PackedMatrix>(module, "PackedMatrix")
        .def_prop_ro("shape", [](const cpu::PackedMatrix& m) { return nb::make_tuple(m.rows(), m.columns()); })
        .def_prop_ro("bits", [](const cpu::PackedMatrix& m) { return bits(m.format()); })
        .def_prop_ro("group_size", &cpu::PackedMatrix::group_size)
        .def_prop_ro("nbytes", &cpu::PackedMatrix::bytes);
    module.def("pack", &pack, "weight"_a, "bias"_a = nb::none());
    module.def("pack_quantized", &pack_quantized, "words"_a, "scales"_a, "biases"_a, "bits"_a, "group_size"_a,
               "bias"_a = nb::none());
    module.def("unpack", &unpack, "matrix"_a, "ids"_a = nb::none());
    module.def("take_rows", &take_rows, "matrix"_a, "ids"_a, "dtype"_a);
    module.def(
        "packed_linear",
        [](const mx::array& x, const Matrix& matrix) { return packed_linear(x, matrix, Rounding::none); }, "x"_a,
        "matrix"_a);
    module.def(
        "bfloat16_linear",
        [](const mx::array& x, const Matrix& matrix) { return packed_linear(x, matrix, Rounding::bfloat16); }, "x"_a,
        "matrix"_a);
    module.def(
        "int8_linear",
        [](const mx::array& x, const Matrix& matrix) { return packed_linear(x, matrix, Rounding::int8); }, "x"_a,
        "matrix"_a);
    module.def(
        "expert_linear",
        [](const mx::array& x, std::vector<Matrix> experts, const mx::array& chosen, std::string_view activations) {
            return expert_linear(x, std::move(experts), chosen, rounding_named(activations));
        },
        "x"_a, "experts"_a, "chosen"_a, "activations"_a);
}

}  // namespace glasschat
