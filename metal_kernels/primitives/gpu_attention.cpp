#include <functional>
#include <memory>

#include "mlx/ops.h"
#include "primitives/arrays.h"
#include "primitives/gpu.h"

namespace glasschat::gpu {

namespace {

// A step's attention of one shape: the same in all layers.
struct Attended {
    metal::AttentionShape shape;
    std::vector<metal::AttentionPlan> plans;
    std::vector<mx::array> tiles;  // of each plan, [tiles, 2]
};

// A step's layout in arrays of int32.
struct Placed {
    mx::array starts;    // [B + 1]
    mx::array contexts;  // [B]
    mx::array tables;    // [B, W]
    mx::array slots;     // [T]
    std::vector<int64_t> query_lens, context_lens;
    std::vector<Attended> attended;
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
            std::move(query_lens), std::move(context_lens), {}};
}

// The arrays of a layout, made once for all layers of its step.
Placed& placed(const Layout& layout) {
    thread_local Layout last;
    thread_local std::optional<Placed> found;
    if (last != layout) {
        found = place(*layout);
        last = layout;
    }
    return *found;
}

// Which launches attend, made once for all layers that are alike.
const Attended& attended(Placed& at, const metal::AttentionShape& shape) {
    for (const Attended& each : at.attended) {
        if (each.shape == shape) {
            return each;
        }
    }
    Attended made{shape, metal::attention(shape, at.query_lens, at.context_lens), {}};
    for (const metal::AttentionPlan& plan : made.plans) {
        std::vector<int32_t> tiles;
        for (const auto& [sequence, row] : plan.tiles) {
            tiles.insert(tiles.end(), {sequence, row});
        }
        made.tiles.push_back(ints(tiles, {static_cast<int>(plan.tiles.size()), 2}));
    }
    return at.attended.emplace_back(std::move(made));
}

metal::Kept kept(const PoolShape& pool) {
    return pool.bits == 0 ? metal::Kept::floats : pool.bits == 8 ? metal::Kept::int8 : metal::Kept::int4;
}

// Rows into a pool, which is written in place. Inputs: rows, slots, then the arrays of the store.
class WriteKV : public Launches {
  public:
    // The launch for rows that are so many numbers apart.
    using ForStride = std::function<metal::Launch(int stride)>;

    WriteKV(mx::Stream stream, metal::Type type, ForStride launch, std::vector<Slot> slots, bool floats)
        : Launches(stream, "WriteKV", type, {}),
          launch_(std::move(launch)),
          slots_(std::move(slots)),
          floats_(floats) {}

  protected:
    void launch(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
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
        std::vector<mx::array> given = inputs;
        mx::array& rows = given[0];
        if (!has_even_rows(rows)) {
            rows = ready(rows);
        }
        const int width = rows.shape(1) * rows.shape(2);
        const int stride = rows.shape(0) == 1 ? width : static_cast<int>(rows.strides(0));
        run({launch_(stride), slots_}, given, outputs, {});
    }

  private:
    ForStride launch_;
    std::vector<Slot> slots_;
    bool floats_;
};

// Inputs: queries, which may have gaps between tokens, and what the steps ask for.
class PagedAttention : public Launches {
  public:
    // The steps for queries that are so many numbers apart.
    using ForStride = std::function<std::vector<Step>(int stride)>;

    PagedAttention(mx::Stream stream, metal::Type type, ForStride steps, std::vector<Between> between)
        : Launches(stream, "PagedAttention", type, {}, std::move(between)), for_stride_(std::move(steps)) {}

  protected:
    void launch(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        outputs[0].set_data(mx::allocator::malloc(outputs[0].nbytes()));
        std::vector<mx::array> given = inputs;
        mx::array& q = given[0];
        if (!has_even_rows(q)) {
            q = ready(q);
        }
        const int width = q.shape(1) * q.shape(2);
        run(for_stride_(q.shape(0) == 1 ? width : static_cast<int>(q.strides(0))), given, outputs, 1);
    }

  private:
    ForStride for_stride_;
};

}  // namespace

mx::array write_kv(const Store& store, const mx::array& rows, const Layout& layout) {
    const PoolShape pool(store);
    const metal::Type type = type_of(rows.dtype(), "rows");
    const int tokens = rows.shape(0), width = pool.heads * pool.size;
    const mx::array& slots = placed(layout).slots;
    std::vector<mx::array> inputs{rows, slots};
    inputs.insert(inputs.end(), store.begin(), store.end());
    const bool floats = pool.bits == 0;
    const metal::Type pool_type = floats ? type_of(store[0].dtype(), "a KV pool") : metal::Type::f16;
    const auto launch = [=, how = kept(pool)](int stride) {
        return floats ? metal::write_kv(type, pool_type, tokens, width, stride)
                      : metal::write_kv_groups(type, how, tokens, width, stride);
    };
    launch(width);  // for its complaints
    std::vector<Slot> slots_of{{Slot::input, 0}, {Slot::input, 1}, {Slot::output, 0}};
    if (!floats) {
        slots_of.insert(slots_of.end(), {{Slot::changed, 3}, {Slot::changed, 4}});
    }
    return mx::array(store[0].shape(), store[0].dtype(),
                     std::make_shared<WriteKV>(stream(), type, launch, slots_of, floats), inputs);
}

mx::array paged_attention(const mx::array& q, const Store& keys, const Store& values, const Layout& layout,
                          float scale) {
    const PoolShape pool(keys);
    need(pool.bits || keys[0].dtype() == q.dtype(), "on the GPU, floats in a KV pool are of the queries' type");
    const metal::Type type = type_of(q.dtype(), "queries");
    Placed& at = placed(layout);
    const metal::AttentionShape shape{type, kept(pool), q.shape(1), pool.heads, pool.size, pool.block_size,
                                      static_cast<int>(layout->width()), q.shape(1) * pool.size, scale};
    std::vector<mx::array> inputs{q};
    std::vector<Slot> pools;
    for (const Store* store : {&keys, &values}) {
        for (int part = 0; part < 3; part++) {
            // Floats have no scales and biases.
            pools.push_back({Slot::input, static_cast<int>(inputs.size() - (pool.bits || part == 0 ? 0 : 1))});
            if (part == 0 || pool.bits) {
                inputs.push_back((*store)[part]);
            }
        }
    }
    const int first = static_cast<int>(inputs.size());
    inputs.insert(inputs.end(), {at.starts, at.contexts, at.tables});
    std::vector<Step> steps;
    std::vector<Between> between;
    const Attended& found = attended(at, shape);
    for (size_t i = 0; i < found.plans.size(); i++) {
        const metal::AttentionPlan& plan = found.plans[i];
        const int count = static_cast<int>(plan.tiles.size());
        const Slot tiles_at{Slot::input, static_cast<int>(inputs.size())}, starts{Slot::input, first},
            contexts{Slot::input, first + 1}, tables{Slot::input, first + 2}, out{Slot::output, 0};
        inputs.push_back(found.tiles[i]);
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
    const auto for_stride = [steps](int stride) {
        std::vector<Step> made = steps;
        for (Step& step : made) {
            step.launch = metal::with_stride(step.launch, stride);
        }
        return made;
    };
    return mx::array(q.shape(), q.dtype(), std::make_shared<PagedAttention>(stream(), type, for_stride, between),
                     inputs);
}

}  // namespace glasschat::gpu
