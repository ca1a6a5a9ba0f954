// What the primitives ask of arrays.
#pragma once

#include <stdexcept>
#include <string>

#include "cpu/numbers.h"
#include "mlx/array.h"

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

}  // namespace glasschat
