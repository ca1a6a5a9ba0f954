#include "primitives/paged_attention.h"

#include <cstring>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "primitives/arrays.h"

namespace glasschat {

namespace {

void check_pool(const mx::array& pool, const cpu::Layout& layout) {
    need(pool.ndim() == 4, "a KV pool is [N, P, H, D]");
    float_type(pool.dtype(), "a KV pool");
    need(pool.shape(1) == layout.block_size(), "the pool has blocks of " + std::to_string(pool.shape(1)) +
                                                   " tokens, the layout of " + std::to_string(layout.block_size()));
    need(layout.last_block() < pool.shape(0), "block " + std::to_string(layout.last_block()) +
                                                  " is not among the pool's " + std::to_string(pool.shape(0)));
}

void check_rows(const mx::array& rows, const cpu::Layout& layout, int head_size) {
    need(rows.ndim() == 3 && rows.shape(0) == layout.tokens() && rows.shape(2) == head_size,
         "a step's rows are [T, heads, D], with as many tokens as the layout");
}

// Query heads that share one key head; a piece of work has room for this many rows.
constexpr int kMostShared = static_cast<int>(cpu::kMostRows);

class WriteKV : public CpuPrimitive {
  public:
    WriteKV(mx::Stream stream, Layout layout) : CpuPrimitive(stream), layout_(std::move(layout)) {}

    const char* name() const override { return "WriteKV"; }

    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        const mx::array &pool = inputs[0], &rows = inputs[1];
        mx::array& out = outputs[0];
        const bool in_place = pool.is_donatable() && pool.flags().row_contiguous;
        if (in_place) {
            out.copy_shared_buffer(pool);
        } else {
            need(pool.flags().row_contiguous, "a KV pool lies in memory without gaps");
            out.set_data(mx::allocator::malloc(out.nbytes()));
        }
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        encoder.set_input_array(pool);
        encoder.set_input_array(rows);
        encoder.set_output_array(out);
        const size_t row_bytes = static_cast<size_t>(pool.shape(2)) * pool.shape(3) * pool.itemsize();
        encoder.dispatch([layout = layout_, row_bytes, in_place, bytes = out.nbytes(), from = pool.data<uint8_t>(),
                          row = rows.data<uint8_t>(), to = out.data<uint8_t>()]() mutable {
            if (!in_place) {
                std::memcpy(to, from, bytes);
            }
            for (int64_t sequence = 0; sequence < layout->sequences(); sequence++) {
                const int64_t end = layout->context_len(sequence);
                for (int64_t position = end - layout->query_len(sequence); position < end; position++, row += row_bytes) {
                    std::memcpy(to + layout->slot(sequence, position) * row_bytes, row, row_bytes);
                }
            }
        });
    }

  private:
    Layout layout_;
};

class PagedAttention : public CpuPrimitive {
  public:
    PagedAttention(mx::Stream stream, Layout layout, float scale)
        : CpuPrimitive(stream), layout_(std::move(layout)), scale_(scale) {}

    const char* name() const override { return "PagedAttention"; }

    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        const mx::array &q = inputs[0], &keys = inputs[1], &values = inputs[2];
        mx::array& out = outputs[0];
        out.set_data(mx::allocator::malloc(out.nbytes()));
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        for (const mx::array& input : inputs) {
            encoder.set_input_array(input);
        }
        encoder.set_output_array(out);
        encoder.dispatch([layout = layout_, scale = scale_, q = q.data<void>(), keys_at = keys.data<void>(),
                          values_at = values.data<void>(), out_at = out.data<void>(),
                          type = float_type(q.dtype(), "queries"), kv_type = float_type(keys.dtype(), "a KV pool"),
                          heads = q.shape(1), kv_heads = keys.shape(2), size = keys.shape(3)] {
            cpu::attention({*layout, q, keys_at, values_at, out_at, type, kv_type, heads, kv_heads, size, scale});
        });
    }

  private:
    Layout layout_;
    float scale_;
};

}  // namespace

mx::array write_kv(const mx::array& pool, const mx::array& rows, const Layout& layout) {
    check_pool(pool, *layout);
    check_rows(rows, *layout, pool.shape(3));
    need(rows.shape(1) == pool.shape(2), "rows and pool have the same number of key heads");
    const mx::Stream stream = cpu_stream();
    const mx::array converted = mx::contiguous(mx::astype(rows, pool.dtype(), stream), false, stream);
    return mx::array(pool.shape(), pool.dtype(), std::make_shared<WriteKV>(stream, layout), {pool, converted});
}

mx::array paged_attention(const mx::array& q, const mx::array& keys, const mx::array& values, const Layout& layout,
                          float scale) {
    check_pool(keys, *layout);
    check_rows(q, *layout, keys.shape(3));
    float_type(q.dtype(), "queries");
    need(values.shape() == keys.shape() && values.dtype() == keys.dtype(), "keys and values have one shape and type");
    const int share = q.shape(1) / keys.shape(2);
    need(share * keys.shape(2) == q.shape(1), "the query heads are a multiple of the key heads");
    need(share <= kMostShared, "at most " + std::to_string(kMostShared) + " query heads share a key head");
    const mx::Stream stream = cpu_stream();
    return mx::array(q.shape(), q.dtype(), std::make_shared<PagedAttention>(stream, layout, scale),
                     {mx::contiguous(q, false, stream), mx::contiguous(keys, false, stream),
                      mx::contiguous(values, false, stream)});
}

}  // namespace glasschat
