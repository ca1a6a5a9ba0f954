#include "primitives/paged_attention.h"

#include <cstring>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "primitives/arrays.h"
#include "primitives/gpu.h"

namespace glasschat {

namespace {

constexpr int kGroup = static_cast<int>(cpu::kKvGroup);

PoolShape checked(const Store& store, const cpu::Layout& layout) {
    const PoolShape shape(store);
    need(shape.block_size == layout.block_size(), "the pool has blocks of " + std::to_string(shape.block_size) +
                                                      " tokens, the layout of " + std::to_string(layout.block_size()));
    need(layout.last_block() < shape.blocks, "block " + std::to_string(layout.last_block()) +
                                                 " is not among the pool's " + std::to_string(shape.blocks));
    return shape;
}

void check_rows(const mx::array& rows, const cpu::Layout& layout, int head_size) {
    need(rows.ndim() == 3 && rows.shape(0) == layout.tokens() && rows.shape(2) == head_size,
         "a step's rows are [T, heads, D], with as many tokens as the layout");
}


class WriteKV : public CpuPrimitive {
  public:
    WriteKV(mx::Stream stream, Layout layout, PoolShape pool)
        : CpuPrimitive(stream), layout_(std::move(layout)), pool_(pool) {}

    const char* name() const override { return "WriteKV"; }

    // Inputs: the rows, then the arrays of the store. Output: the first of these. An operation with several outputs is
    // never given its inputs' memory by MLX, so the others are written where they are.
    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        const mx::array &rows = inputs[0], &elements = inputs[1];
        mx::array& out = outputs[0];
        encoder.set_input_array(rows);
        cpu::KvRoom room = room_in(inputs, 1, pool_, encoder);
        if (pool_.bits || elements.is_donatable()) {
            out.copy_shared_buffer(elements);
        } else {
            out.set_data(mx::allocator::malloc(out.nbytes()));
            encoder.dispatch([to = out.data<uint8_t>(), from = elements.data<uint8_t>(), size = out.nbytes()] {
                std::memcpy(to, from, size);
            });
        }
        encoder.set_output_array(out);
        room.elements = out.data<uint8_t>();
        encoder.dispatch([layout = layout_, room, rows = rows.data<void>(), type = float_type(rows.dtype(), "rows")] {
            cpu::write_kv(*layout, rows, room.width, type, room);
        });
    }

  private:
    Layout layout_;
    PoolShape pool_;
};

class PagedAttention : public CpuPrimitive {
  public:
    PagedAttention(mx::Stream stream, Layout layout, float scale, PoolShape pool)
        : CpuPrimitive(stream), layout_(std::move(layout)), scale_(scale), pool_(pool) {}

    const char* name() const override { return "PagedAttention"; }

    // Inputs: the queries, then the arrays of the keys, then those of the values.
    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        const mx::array& q = inputs[0];
        mx::array& out = outputs[0];
        out.set_data(mx::allocator::malloc(out.nbytes()));
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        for (const mx::array& input : inputs) {
            encoder.set_input_array(input);
        }
        encoder.set_output_array(out);
        const size_t parts = inputs.size() / 2;
        encoder.dispatch([layout = layout_, scale = scale_, pool = pool_, q = q.data<void>(), out_at = out.data<void>(),
                          keys = kept(inputs, 1, parts), values = kept(inputs, 1 + parts, parts),
                          type = float_type(q.dtype(), "queries"), heads = q.shape(1)] {
            cpu::attention({*layout, q, keys, values, out_at, type, heads, pool.heads, pool.size, scale});
        });
    }

  private:
    cpu::KvStore kept(const std::vector<mx::array>& inputs, size_t first, size_t parts) const {
        const mx::array& elements = inputs[first];
        if (parts == 1) {
            return {elements.data<void>(), float_type(elements.dtype(), "a KV pool")};
        }
        return {elements.data<void>(), cpu::Float::f16, pool_.bits, inputs[first + 1].data<uint16_t>(),
                inputs[first + 2].data<uint16_t>()};
    }

    Layout layout_;
    float scale_;
    PoolShape pool_;
};

}  // namespace

PoolShape::PoolShape(const Store& store) {
    need(store.size() == 1 || store.size() == 3, "a KV pool is one array, or words, scales and biases");
    const mx::array& elements = store[0];
    need(elements.ndim() == 4, "a KV pool is [N, P, H, D]");
    blocks = elements.shape(0), block_size = elements.shape(1), heads = elements.shape(2);
    if (store.size() == 1) {
        float_type(elements.dtype(), "a KV pool");
        size = elements.shape(3), bits = 0;
        return;
    }
    need(elements.dtype() == mx::uint32, "a pool's integers are packed into words of uint32");
    for (int i = 1; i < 3; i++) {
        need(store[i].dtype() == mx::float16 && store[i].ndim() == 4 && store[i].shape() == store[1].shape() &&
                 store[i].shape(0) == blocks && store[i].shape(1) == block_size && store[i].shape(2) == heads,
             "a pool's scales and biases are float16 [N, P, H, D / 32]");
    }
    size = store[1].shape(3) * kGroup;
    bits = size ? elements.shape(3) * 32 / size : 0;
    need((bits == 4 || bits == 8) && elements.shape(3) * 32 == size * bits, "a pool's integers have 4 or 8 bits");
}

PoolShape checked(const Store& keys, const Store& values, const cpu::Layout& layout) {
    const PoolShape pool = checked(keys, layout);
    need(PoolShape(values) == pool && values[0].dtype() == keys[0].dtype(), "keys and values have one shape and type");
    return pool;
}

void check_heads(int64_t heads, const PoolShape& pool) {
    const int64_t share = pool.heads ? heads / pool.heads : 0;
    need(share * pool.heads == heads, "the query heads are a multiple of the key heads");
    // A piece of work has room for this many rows.
    need(share <= cpu::kMostRows, "at most " + std::to_string(cpu::kMostRows) + " query heads share a key head");
}

cpu::KvRoom room_in(const std::vector<mx::array>& inputs, size_t first, const PoolShape& pool,
                    mx::cpu::CommandEncoder& encoder) {
    const size_t parts = pool.bits ? 3 : 1;
    for (size_t i = first; i < first + parts; i++) {
        need(inputs[i].flags().row_contiguous, "a KV pool lies in memory without gaps");
        encoder.set_input_array(inputs[i]);
    }
    // MLX's arrays are read only to those who see them as values; the pool is memory that its owner lends.
    const auto memory = [&](size_t i) { return const_cast<uint8_t*>(inputs[first + i].data<uint8_t>()); };
    return {memory(0),
            pool.bits ? cpu::Float::f16 : float_type(inputs[first].dtype(), "a KV pool"),
            pool.bits,
            pool.bits ? reinterpret_cast<uint16_t*>(memory(1)) : nullptr,
            pool.bits ? reinterpret_cast<uint16_t*>(memory(2)) : nullptr,
            int64_t{pool.heads} * pool.size};
}

mx::array write_kv(const Store& store, const mx::array& rows, const Layout& layout) {
    const PoolShape pool = checked(store, *layout);
    check_rows(rows, *layout, pool.size);
    need(rows.shape(1) == pool.heads, "rows and pool have the same number of key heads");
    float_type(rows.dtype(), "rows");
    if (gpu::in_use()) {
        return gpu::write_kv(store, rows, layout);
    }
    const mx::Stream stream = cpu_stream();
    std::vector<mx::array> inputs{mx::contiguous(rows, false, stream)};
    inputs.insert(inputs.end(), store.begin(), store.end());
    return mx::array(store[0].shape(), store[0].dtype(), std::make_shared<WriteKV>(stream, layout, pool), inputs);
}

mx::array paged_attention(const mx::array& q, const Store& keys, const Store& values, const Layout& layout,
                          float scale) {
    const PoolShape pool = checked(keys, values, *layout);
    check_rows(q, *layout, pool.size);
    float_type(q.dtype(), "queries");
    check_heads(q.shape(1), pool);
    if (gpu::in_use()) {
        return gpu::paged_attention(q, keys, values, layout, scale);
    }
    const mx::Stream stream = cpu_stream();
    std::vector<mx::array> inputs{mx::contiguous(q, false, stream)};
    for (const Store* store : {&keys, &values}) {
        for (const mx::array& part : *store) {
            inputs.push_back(mx::contiguous(part, false, stream));
        }
    }
    return mx::array(q.shape(), q.dtype(), std::make_shared<PagedAttention>(stream, layout, scale, pool), inputs);
}

}  // namespace glasschat
