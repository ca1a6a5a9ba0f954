#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "metal/launches.h"
#include "metal/source.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace glasschat {

namespace {

using metal::Launch;
using metal::Type;

Type type(const std::string& name) {
    return metal::type_named(name);
}

metal::Kept kept(const std::string& name) {
    if (name == "float") {
        return metal::Kept::floats;
    }
    if (name != "int8" && name != "int4") {
        throw std::invalid_argument(name + " is no way of keeping keys and values: float, int8 or int4");
    }
    return name == "int8" ? metal::Kept::int8 : metal::Kept::int4;
}

nb::dict constants(const Launch& launch) {
    nb::dict values;
    for (const metal::Constant& each : launch.constants) {
        values[nb::int_(each.index)] = each.is_bool ? nb::object(nb::bool_(each.value != 0)) : nb::int_(each.value);
    }
    return values;
}

nb::bytes params(const Launch& launch) {
    return nb::bytes(reinterpret_cast<const char*>(launch.params.data()), launch.params.size());
}

}  // namespace

// The launch table of the Metal kernels, for the tests that run them elsewhere.
void bind_launches(nb::module_& module) {
    nb::class_<Launch>(module, "MetalLaunch")
        .def_ro("file", &Launch::file)
        .def_ro("kernel", &Launch::kernel)
        .def_ro("groups", &Launch::groups)
        .def_ro("threads", &Launch::threads)
        .def_prop_ro("constants", &constants)
        .def_prop_ro("params", &params);
    nb::class_<metal::QuantizedPlan>(module, "MetalQuantizedPlan")
        .def_ro("multiply", &metal::QuantizedPlan::multiply)
        .def_ro("splits", &metal::QuantizedPlan::splits)
        .def_ro("sum", &metal::QuantizedPlan::sum);
    nb::class_<metal::AttentionPlan>(module, "MetalAttentionPlan")
        .def_ro("tiles", &metal::AttentionPlan::tiles)
        .def_ro("attend", &metal::AttentionPlan::attend)
        .def_ro("decodes", &metal::AttentionPlan::decodes)
        .def_ro("rows", &metal::AttentionPlan::rows)
        .def_ro("splits", &metal::AttentionPlan::splits)
        .def_ro("merge", &metal::AttentionPlan::merge);

    struct MetalLaunches {};
    nb::class_<MetalLaunches>(module, "MetalLaunches")
        .def_static(
            "quantized",
            [](const std::string& of, int bits, int group, int rows, int outputs, int inputs, bool bias, bool gather) {
                return metal::quantized({type(of), bits, group, rows, outputs, inputs, bias, gather});
            },
            "type"_a, "bits"_a, "group"_a, "rows"_a, "outputs"_a, "inputs"_a, "bias"_a = false, "gather"_a = false)
        .def_static(
            "attention",
            [](const std::string& of, const std::string& how, int heads, int kv_heads, int size, int block_size,
               int table_width, int query_stride, float scale, const std::vector<int64_t>& query_lens,
               const std::vector<int64_t>& context_lens) {
                const metal::AttentionShape shape{type(of),   kept(how),   heads,        kv_heads, size,
                                                  block_size, table_width, query_stride, scale};
                return metal::attention(shape, query_lens, context_lens);
            },
            "type"_a, "kept"_a, "heads"_a, "kv_heads"_a, "size"_a, "block_size"_a, "table_width"_a,
            "query_stride"_a, "scale"_a,
            "query_lens"_a, "context_lens"_a)
        .def_static("copy", &metal::copy, "bytes"_a)
        .def_static("gather", &metal::gather, "item_bytes"_a, "shape"_a, "strides"_a, "first"_a)
        .def_static(
            "write_kv",
            [](const std::string& of, const std::string& pool, int tokens, int width, int stride) {
                return pool == "int8" || pool == "int4"
                           ? metal::write_kv_groups(type(of), kept(pool), tokens, width, stride)
                           : metal::write_kv(type(of), type(pool), tokens, width, stride);
            },
            "type"_a, "pool"_a, "tokens"_a, "width"_a, "stride"_a)
        .def_static(
            "rms_norm",
            [](const std::string& of, int rows, int width, int stride, float eps, bool add) {
                return metal::rms_norm(type(of), rows, width, stride, eps, add);
            },
            "type"_a, "rows"_a, "width"_a, "stride"_a, "eps"_a, "add"_a)
        .def_static(
            "rope",
            [](const std::string& of, int tokens, int heads, int size, int stride, float theta) {
                return metal::rope(type(of), tokens, heads, size, stride, theta);
            },
            "type"_a, "tokens"_a, "heads"_a, "size"_a, "stride"_a, "theta"_a)
        .def_static(
            "swiglu",
            [](const std::string& of, int rows, int width, int gate_stride, int up_stride) {
                return metal::swiglu(type(of), rows, width, gate_stride, up_stride);
            },
            "type"_a, "rows"_a, "width"_a, "gate_stride"_a, "up_stride"_a)
        .def_static("argmax", &metal::argmax, "rows"_a, "width"_a, "count"_a, "draw"_a, "listed"_a)
        .def_static("largest", &metal::largest, "rows"_a, "width"_a, "count"_a)
        .def_static(
            "source",
            [](const std::string& directory, const std::string& file, const std::string& of) {
                return metal::source(directory, file, type(of));
            },
            "directory"_a, "file"_a, "type"_a);
}

}  // namespace glasschat
