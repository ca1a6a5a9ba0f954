// What the primitives share: what they ask of arrays, and where they run.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/numbers.h"
#include "mlx/array.h"
#include "mlx/primitives.h"
#include "mlx/utils.h"

namespace glasschat {

inline void need(bool ok, const std::string& message) {
    if (!ok) {
        throw std::invalid_argument(message);
    }
}

inline cpu::Float float_type(mlx::core::Dtype type, const char* what) {
    if (type == mlx::core::float32) {
        return cpu::Float::f32;
    }
    if (type == mlx::core::bfloat16) {
        return cpu::Float::bf16;
    }
    need(type == mlx::core::float16, std::string(what) + " must be float32, bfloat16 or float16");
    return cpu::Float::f16;
}

inline mlx::core::Stream cpu_stream() {
    return mlx::core::to_stream(mlx::core::StreamOrDevice{}, mlx::core::Device::cpu);
}

class CpuPrimitive : public mlx::core::Primitive {
  public:
    using Primitive::Primitive;

    void eval_gpu(const std::vector<mlx::core::array>&, std::vector<mlx::core::array>&) final {
        throw std::runtime_error(std::string(name()) + " runs on the CPU: use a CPU stream");
    }
};

}  // namespace glasschat
