#include <memory>

#include "mlx/ops.h"
#include "primitives/arrays.h"
#include "primitives/gpu.h"

namespace glasschat::gpu {

namespace {

// A step's layout in arrays of int32.
struct Placed {
    mx::array starts;    // [B + 1]
    mx::array contexts;  // [B]
    mx::array tables;    // [B, W]
    mx::array slots;     // [T]
    std::vector<int64_t> query_lens, context_lens;
};

mx::array ints(const std::vector<int32_t>& numbers, mx::Shape shape) {
    return mx::array(numbers.begin(), std::move(shape), mx::int32);
}

Placed place(const cpu::Layout& layout) {
    std::vector<int32_t> starts{0}, contexts, slots;
    std::vector<int64_t> query_lens, context_lens;
    for (int64_t i = 0; i < layout.sequences(); i++) {
        query_lens.push_back(layout.query_len(i));
        context_lens.push_back(layout.context_len(i));
        starts.push_back(static_cast<int32_t>(layout.start(i) + layout.query_len(i)));
        contexts.push_back(static_cast<int32_t>(layout.context_len(i)));
        for (int64_t at = layout.context_len(i) - layout.query_len(i); at < layout.context_len(i); at++) {
            slots.push_back(static_cast<int32_t>(layout.slot(i, at)));
        }
    }
    const int count = static_cast<int>(layout.sequences()), tokens = static_cast<int>(layout.tokens());
    return {ints(starts, {count + 1}), ints(contexts, {count}),
            ints(layout.tables(), {count, static_cast<int>(layout.width())}), ints(slots, {tokens}),
            std::move(query_lens), std::move(context_lens)};
}

// The arrays of a layout, made once for all layers of its step.
const Placed& placed(const Layout& layout) {
    thread_local Layout last;
    thread_local std::optional<Placed> found;
    if (last != layout) {
        found = place(*layout);
        last = layout;
    }
    return *found;
}

metal::Kept kept(const PoolShape& pool) {
    return pool.bits == 0 ? metal::Kept::floats : pool.bits == 8 ? metal::Kept::int8 : metal::Kept::int4;
}

// Rows into a pool, which is written in place. Inputs: rows, slots, then the arrays of the store.
class WriteKV : public Launches {
  public:
    WriteKV(mx::Stream stream, metal::Type type, Step step, bool floats)
        : Launches(stream, "WriteKV", type, {std::move(step)}), floats_(floats) {}

    void eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        const mx::array& pool = inputs[2];
        for (size_t i = 2; i < inputs.size(); i++) {
            need(inputs[i].flags().row_contiguous, "a KV pool lies in memory without gaps");
        }
        if (!floats_ || pool.is_donatable()) {
            outputs[0].copy_shared_buffer(pool);
        } else {
            outputs[0].set_data(mx::allocator::malloc(outputs[0].nbytes()));
            run({metal::copy(pool.nbytes()), {{Slot::input, 2}, {Slot::output, 0}}}, inputs, outputs, {});
        }
        run(inputs, outputs);
    }

  private:
    bool floats_;
};

}  // namespace

mx::array write_kv(const Store& store, const mx::array& rows, const Layout& layout) {
    const PoolShape pool(store);
    const metal::Type type = type_of(rows.dtype(), "rows");
    const int tokens = rows.shape(0), width = pool.heads * pool.size;
    const mx::array& slots = placed(layout).slots;
    std::vector<mx::array> inputs{mx::contiguous(rows, false, stream()), slots};
    inputs.insert(inputs.end(), store.begin(), store.end());
    Step step{pool.bits ? metal::write_kv_groups(type, kept(pool), tokens, width)
                        : metal::write_kv(type, type_of(store[0].dtype(), "a KV pool"), tokens, width),
              {{Slot::input, 0}, {Slot::input, 1}, {Slot::output, 0}}};
    if (pool.bits) {
        step.slots.push_back({Slot::changed, 3});
        step.slots.push_back({Slot::changed, 4});
    }
    return mx::array(store[0].shape(), store[0].dtype(),
                     std::make_shared<WriteKV>(stream(), type, std::move(step), pool.bits == 0), inputs);
}

mx::array paged_attention(const mx::array& q, const Store& keys, const Store& values, const Layout& layout,
                          float scale) {
    const PoolShape pool(keys);
    need(pool.bits || keys[0].dtype() == q.dtype(), "on the GPU, floats in a KV pool are of the queries' type");
    const metal::Type type = type_of(q.dtype(), "queries");
    const Placed& at = placed(layout);
    const metal::AttentionShape shape{type, kept(pool), q.shape(1), pool.heads, pool.size, pool.block_size,
                                      static_cast<int>(layout->width()), scale};
    std::vector<mx::array> inputs{mx::contiguous(q, false, stream())};
    std::vector<Slot> pools;
    for (const Store* store : {&keys, &values}) {
        for (int part = 0; part < 3; part++) {
            // Floats have no scales and biases.
            pools.push_back({Slot::input, static_cast<int>(inputs.size() - (pool.bits || part == 0 ? 0 : 1))});
            if (part == 0 || pool.bits) {
                inputs.push_back(mx::contiguous((*store)[part], false, stream()));
            }
        }
    }
    const int first = static_cast<int>(inputs.size());
    inputs.insert(inputs.end(), {at.starts, at.contexts, at.tables});
    std::vector<Step> steps;
    std::vector<Between> between;
    for (const metal::AttentionPlan& plan : metal::attention(shape, at.query_lens, at.context_lens)) {
        std::vector<int32_t> tiles;
        for (const auto& [sequence, row] : plan.tiles) {
            tiles.insert(tiles.end(), {sequence, row});
        }
        const int count = static_cast<int>(plan.tiles.size());
        const Slot tiles_at{Slot::input, static_cast<int>(inputs.size())}, starts{Slot::input, first},
            contexts{Slot::input, first + 1}, tables{Slot::input, first + 2}, out{Slot::output, 0};
        inputs.push_back(ints(tiles, {count, 2}));
        std::vector<Slot> slots{{Slot::input, 0}};
        slots.insert(slots.end(), pools.begin(), pools.end());
        slots.insert(slots.end(), {tiles_at, starts, contexts, tables});
        if (!plan.merge) {
            slots.push_back(out);
            if (plan.decodes) {
                slots.push_back({Slot::input, 0});
            }
            steps.push_back({plan.attend, slots});
            continue;
        }
        const int next = static_cast<int>(between.size());
        between.push_back({{count, pool.heads, plan.rows, plan.splits, pool.size}, mx::float32});
        between.push_back({{count, pool.heads, plan.rows, plan.splits, 2}, mx::float32});
        slots.insert(slots.end(), {{Slot::left, next}, {Slot::left, next + 1}});
        steps.push_back({plan.attend, slots});
        const Slot mixed{Slot::between, next}, parts{Slot::between, next + 1};
        steps.push_back({*plan.merge, {mixed, parts, tiles_at, starts, contexts, out}});
    }
    return mx::array(q.shape(), q.dtype(), std::make_shared<Launches>(stream(), "PagedAttention", type, steps, between),
                     inputs);
}

}  // namespace glasschat::gpu
