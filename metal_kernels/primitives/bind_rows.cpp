#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "primitives/largest.h"
#include "primitives/rows.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace glasschat {

void bind_rows(nb::module_& module) {
    module.def("rms_norm", &rms_norm, "x"_a, "weight"_a, "eps"_a);
    module.def("add_rms_norm", &add_rms_norm, "x"_a, "added"_a, "weight"_a, "eps"_a);
    module.def("rope", &rope, "x"_a, "positions"_a, "theta"_a);
    module.def("largest", &largest, "x"_a, "count"_a);
    module.def("greedy", &greedy, "x"_a);
    module.def("draw", &draw, "x"_a, "rows"_a);
    module.def("silu_mul", &silu_mul, "gate"_a, "up"_a);
}

}  // namespace glasschat
