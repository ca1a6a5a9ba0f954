// A linear layer on a packed matrix, as an operation of MLX's graph.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <tuple>

#include "cpu/matmul.h"
#include "cpu/packing.h"
#include "mlx/array.h"

namespace glasschat {

namespace mx = mlx::core;

using cpu::Matrix;

// Packs a matrix of floats [O, I], or one in MLX's affine quantization: words [O, I * bits / 32] of uint32 with scales
// and biases [O, I / group_size]. `bias` [O] is the layer's own. Throws std::invalid_argument for any other shape or
// type.
Matrix pack(const mx::array& weight, const std::optional<mx::array>& bias);
Matrix pack_quantized(const mx::array& words, const mx::array& scales, const mx::array& biases, int bits,
                      int group_size, const std::optional<mx::array>& bias);

// Back to what was packed: elements, scales and biases (the last two empty for floats), without the layer's bias. Of
// all rows, or of rows `ids` [T] one after another. Throws std::invalid_argument for an id that is no row.
std::tuple<mx::array, mx::array, mx::array> unpack(const Matrix& matrix, const std::optional<mx::array>& ids);

// Rows `ids` [T] of the matrix as floats [T, I] of `type`, computed at once. Throws like `unpack`.
mx::array take_rows(const Matrix& matrix, const mx::array& ids, mx::Dtype type);

enum class Rounding { none, bfloat16, int8 };

// What exact, bfloat16 and int8 mean; int8 takes what is not quantized as it is. Throws std::invalid_argument.
Rounding rounding_named(std::string_view name);

// What multiplies activations that are rounded so.
cpu::Multiply multiply(Rounding rounding);

// x [..., I] times the matrix plus its bias: [..., O] in x's type, which is float32, bfloat16 or float16. x may be
// rounded first; Rounding::int8 takes a quantized matrix.
mx::array packed_linear(const mx::array& x, const Matrix& matrix, Rounding rounding);

}  // namespace glasschat
