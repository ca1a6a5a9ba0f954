#include "primitives/paged_attention.h"

#include <cstring>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "primitives/arrays.h"

namespace glasschat {

namespace {

constexpr int kGroup = static_cast<int>(cpu::kKvGroup);

// The arrays of a store, seen as [N, P, H, D].
struct Shape {
    int blocks, block_size, heads, size;
    int bits;  // 0 for floats

    explicit Shape(const Store& store) {
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

    bool operator==(const Shape&) const = default;
};

Shape checked(const Store& store, const cpu::Layout& layout) {
    const Shape shape(store);
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

// Query heads that share one key head; a piece of work has room for this many rows.
constexpr int kMostShared = static_cast<int>(cpu::kMostRows);

// The bytes that a token takes in one of a store's arrays.
size_t token_bytes(const mx::array& kept) {
    return static_cast<size_t>(kept.shape(2)) * kept.shape(3) * kept.itemsize();
}

class WriteKV : public CpuPrimitive {
  public:
    WriteKV(mx::Stream stream, Layout layout, int bits) : CpuPrimitive(stream), layout_(std::move(layout)), bits_(bits) {}

    const char* name() const override { return "WriteKV"; }

    // Inputs: the rows, then the arrays of the store. Outputs: the arrays.
    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        encoder.set_input_array(inputs[0]);
        std::vector<uint8_t*> kept;
        std::vector<size_t> widths;
        for (size_t i = 0; i < outputs.size(); i++) {
            const mx::array& pool = inputs[i + 1];
            mx::array& out = outputs[i];
            need(pool.flags().row_contiguous, "a KV pool lies in memory without gaps");
            encoder.set_input_array(pool);
            if (pool.is_donatable()) {
                out.copy_shared_buffer(pool);
            } else {
                out.set_data(mx::allocator::malloc(out.nbytes()));
                encoder.dispatch([to = out.data<uint8_t>(), from = pool.data<uint8_t>(), size = out.nbytes()] {
                    std::memcpy(to, from, size);
                });
            }
            encoder.set_output_array(out);
            kept.push_back(out.data<uint8_t>());
            widths.push_back(token_bytes(pool));
        }
        encoder.dispatch([layout = layout_, bits = bits_, kept, widths, row = inputs[0].data<uint8_t>()]() mutable {
            const auto groups = static_cast<int64_t>(bits ? widths[1] / sizeof(uint16_t) : 0);
            const size_t row_bytes = bits ? groups * cpu::kKvGroup * sizeof(float) : widths[0];
            for (int64_t sequence = 0; sequence < layout->sequences(); sequence++) {
                const int64_t end = layout->context_len(sequence);
                for (int64_t position = end - layout->query_len(sequence); position < end; position++, row += row_bytes) {
                    const int64_t slot = layout->slot(sequence, position);
                    if (bits == 0) {
                        std::memcpy(kept[0] + slot * row_bytes, row, row_bytes);
                    } else {
                        cpu::to_groups(reinterpret_cast<const float*>(row), groups, bits, kept[0] + slot * widths[0],
                                       reinterpret_cast<uint16_t*>(kept[1] + slot * widths[1]),
                                       reinterpret_cast<uint16_t*>(kept[2] + slot * widths[2]));
                    }
                }
            }
        });
    }

  private:
    Layout layout_;
    int bits_;
};

class PagedAttention : public CpuPrimitive {
  public:
    PagedAttention(mx::Stream stream, Layout layout, float scale, Shape pool)
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
    Shape pool_;
};

}  // namespace

Store write_kv(const Store& store, const mx::array& rows, const Layout& layout) {
    const Shape pool = checked(store, *layout);
    check_rows(rows, *layout, pool.size);
    need(rows.shape(1) == pool.heads, "rows and pool have the same number of key heads");
    const mx::Stream stream = cpu_stream();
    const mx::Dtype type = pool.bits ? mx::float32 : store[0].dtype();
    std::vector<mx::array> inputs{mx::contiguous(mx::astype(rows, type, stream), false, stream)};
    std::vector<mx::Shape> shapes;
    std::vector<mx::Dtype> types;
    for (const mx::array& part : store) {
        inputs.push_back(part);
        shapes.push_back(part.shape());
        types.push_back(part.dtype());
    }
    return mx::array::make_arrays(std::move(shapes), types, std::make_shared<WriteKV>(stream, layout, pool.bits), inputs);
}

mx::array paged_attention(const mx::array& q, const Store& keys, const Store& values, const Layout& layout,
                          float scale) {
    const Shape pool = checked(keys, *layout);
    check_rows(q, *layout, pool.size);
    float_type(q.dtype(), "queries");
    need(Shape(values) == pool && values[0].dtype() == keys[0].dtype(), "keys and values have one shape and type");
    const int share = q.shape(1) / pool.heads;
    need(share * pool.heads == q.shape(1), "the query heads are a multiple of the key heads");
    need(share <= kMostShared, "at most " + std::to_string(kMostShared) + " query heads share a key head");
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
