// The KV cache's two operations of MLX's graph: writing a step's keys and values, and attention over them.
#pragma once

#include <memory>
#include <vector>

#include "cpu/attention.h"
#include "mlx/array.h"

namespace glasschat {

namespace mx = mlx::core;

using Layout = std::shared_ptr<const cpu::Layout>;

// What keys or values are kept in, seen as [N, P, H, D]: one array of floats, or three of integers in groups, which are
// words [N, P, H, D * bits / 32] of uint32, scales and biases [N, P, H, D / 32] of float16 (cpu/kv_store.h).
using Store = std::vector<mx::array>;

// Puts `rows` [T, H, D] into the slots of a step's tokens, in place where nothing else holds the store's arrays. Throws
// std::invalid_argument for shapes and types that do not belong together, and for a block that the pool does not have.
Store write_kv(const Store& store, const mx::array& rows, const Layout& layout);

// Attention of q [T, H_q, D] over keys and values: [T, H_q, D] in q's type. Throws like write_kv.
mx::array paged_attention(const mx::array& q, const Store& keys, const Store& values, const Layout& layout,
                          float scale);

}  // namespace glasschat
