// The KV cache's two operations of MLX's graph: writing a step's keys and values, and attention over them.
#pragma once

#include <memory>
#include <vector>

#include "cpu/attention.h"
#include "mlx/array.h"
#include "mlx/backend/cpu/encoder.h"

namespace glasschat {

namespace mx = mlx::core;

using Layout = std::shared_ptr<const cpu::Layout>;

// What keys or values are kept in, seen as [N, P, H, D]: one array of floats, or three of integers in groups, which are
// words [N, P, H, D * bits / 32] of uint32, scales and biases [N, P, H, D / 32] of float16 (cpu/kv_store.h).
using Store = std::vector<mx::array>;

// The arrays of a store, seen as [N, P, H, D].
struct PoolShape {
    int blocks, block_size, heads, size;
    int bits;  // 0 for floats

    // Throws std::invalid_argument for arrays that are no store.
    explicit PoolShape(const Store& store);
    bool operator==(const PoolShape&) const = default;
};

// The shape of a layer's keys and values. Throws std::invalid_argument if they differ, or lack a block of the layout.
PoolShape checked(const Store& keys, const Store& values, const cpu::Layout& layout);

// Throws std::invalid_argument where so many query heads can't share the pool's key heads.
void check_heads(int64_t heads, const PoolShape& pool);

// The store that begins with input `first` of a primitive, to be written where it is, whoever else holds it.
cpu::KvRoom room_in(const std::vector<mx::array>& inputs, size_t first, const PoolShape& pool,
                    mx::cpu::CommandEncoder& encoder);

// Puts `rows` [T, H, D] into the slots of a step's tokens. Returns the store's first array with them in it: the others stay
// what they are, written in place. So is the first, but for floats that something else holds, which are copied. Throws
// std::invalid_argument for shapes and types that do not belong together, and for a block that the pool does not have.
mx::array write_kv(const Store& store, const mx::array& rows, const Layout& layout);

// Attention of q [T, H_q, D] over keys and values: [T, H_q, D] in q's type. Throws like write_kv.
mx::array paged_attention(const mx::array& q, const Store& keys, const Store& values, const Layout& layout,
                          float scale);

}  // namespace glasschat
