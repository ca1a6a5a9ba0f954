// The KV cache's two operations of MLX's graph: writing a step's keys and values, and attention over them.
#pragma once

#include <memory>

#include "cpu/attention.h"
#include "mlx/array.h"

namespace glasschat {

namespace mx = mlx::core;

using Layout = std::shared_ptr<const cpu::Layout>;

// Puts `rows` [T, H, D] into the slots of a step's tokens in `pool` [N, P, H, D], in place where nothing else holds the
// pool. Throws std::invalid_argument for shapes and types that do not belong together, and for a block that the pool
// does not have.
mx::array write_kv(const mx::array& pool, const mx::array& rows, const Layout& layout);

// Attention of q [T, H_q, D] over keys and values [N, P, H, D]: [T, H_q, D] in q's type. Throws like write_kv.
mx::array paged_attention(const mx::array& q, const mx::array& keys, const mx::array& values, const Layout& layout,
                          float scale);

}  // namespace glasschat
