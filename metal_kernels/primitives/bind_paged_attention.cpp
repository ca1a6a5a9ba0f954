#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/vector.h>

#include "primitives/paged_attention.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace glasschat {

void bind_paged_attention(nb::module_& module) {
    nb::class_<cpu::Layout>(module, "Layout")
        .def(nb::init<std::vector<int64_t>, std::vector<int64_t>, std::vector<int32_t>, int64_t, int64_t>(),
             "query_lens"_a, "context_lens"_a, "tables"_a, "width"_a, "block_size"_a);
    module.def("write_kv", &write_kv, "store"_a, "rows"_a, "layout"_a);
    module.def("paged_attention", &paged_attention, "q"_a, "keys"_a, "values"_a, "layout"_a, "scale"_a);
}

}  // namespace glasschat
