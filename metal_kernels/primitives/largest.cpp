#include "primitives/largest.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "cpu/draw.h"
#include "cpu/largest.h"
#include "cpu/rows.h"
#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "primitives/arrays.h"
#include "primitives/gpu.h"

namespace glasschat {

namespace mx = mlx::core;

namespace {

// A primitive from rows without gaps to ids of numbers in them.
class Ids : public CpuPrimitive {
  public:
    using CpuPrimitive::CpuPrimitive;

    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) final {
        mx::array& ids = outputs[0];
        ids.set_data(mx::allocator::malloc(ids.nbytes()));
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        encoder.set_input_array(inputs[0]);
        encoder.set_output_array(ids);
        run(inputs[0], ids, encoder);
    }

  protected:
    virtual void run(const mx::array& x, mx::array& ids, mx::cpu::CommandEncoder& encoder) = 0;
};

class Largest : public Ids {
  public:
    using Ids::Ids;
    const char* name() const override { return "Largest"; }

  protected:
    void run(const mx::array& x, mx::array& ids, mx::cpu::CommandEncoder& encoder) override {
        encoder.dispatch([from = x.data<float>(), rows = int64_t{x.shape(0)}, width = int64_t{x.shape(1)},
                          count = int64_t{ids.shape(1)},
                          to = ids.data<uint32_t>()] { cpu::largest(from, rows, width, count, to); });
    }
};

class Greedy : public Ids {
  public:
    using Ids::Ids;
    const char* name() const override { return "Greedy"; }

  protected:
    void run(const mx::array& x, mx::array& ids, mx::cpu::CommandEncoder& encoder) override {
        const cpu::GreedyTask task{x.data<float>(), ids.data<uint32_t>(), x.shape(0), x.shape(1)};
        encoder.dispatch([task] { cpu::greedy(task); });
    }
};

class Draw : public Ids {
  public:
    Draw(mx::Stream stream, std::vector<cpu::Draw> draws) : Ids(stream), draws_(std::move(draws)) {}
    const char* name() const override { return "Draw"; }

  protected:
    void run(const mx::array& x, mx::array& ids, mx::cpu::CommandEncoder& encoder) override {
        encoder.dispatch([from = x.data<float>(), to = ids.data<uint32_t>(), rows = int64_t{x.shape(0)},
                          width = int64_t{x.shape(1)},
                          draws = draws_] { cpu::draw({from, to, rows, width, draws.data()}); });
    }

  private:
    std::vector<cpu::Draw> draws_;
};

void need_rows(const mx::array& x) {
    need(x.ndim() == 2 && x.dtype() == mx::float32, "rows to choose from are float32 [R, V]");
}

}  // namespace

mx::array largest(const mx::array& x, int count) {
    if (gpu::in_use()) {
        return gpu::largest(x, count);
    }
    need_rows(x);
    need(count >= 1 && count <= x.shape(1), "from 1 to all numbers of a row can be asked for");
    const mx::Stream stream = cpu_stream();
    return mx::array({x.shape(0), count}, mx::uint32, std::make_shared<Largest>(stream),
                     {mx::contiguous(x, false, stream)});
}

mx::array greedy(const mx::array& x) {
    if (gpu::in_use()) {
        return gpu::greedy(x);
    }
    need_rows(x);
    const mx::Stream stream = cpu_stream();
    return mx::array({x.shape(0)}, mx::uint32, std::make_shared<Greedy>(stream), {mx::contiguous(x, false, stream)});
}

mx::array draw(const mx::array& x, const std::vector<RowDraw>& rows) {
    need_rows(x);
    need(x.shape(1) > 0, "rows to draw from have at least one number");
    need(static_cast<int64_t>(rows.size()) == x.shape(0), "there is one way to draw for each row");
    std::vector<cpu::Draw> draws;
    for (const auto& [temperature, min_p, top_k, top_p, key] : rows) {
        need(temperature > 0 && min_p >= 0 && min_p <= 1 && top_k >= 0 && top_p > 0 && top_p <= 1,
             "temperatures are above 0, min_p from 0 to 1, top_k 0 or more, and top_p above 0 and up to 1");
        // Smaller ones would be flushed to zero.
        constexpr float kColdest = 1e-30f;
        draws.push_back({std::max(static_cast<float>(temperature), kColdest), std::log(static_cast<float>(min_p)),
                         top_k, static_cast<float>(top_p), static_cast<uint32_t>(key),
                         static_cast<uint32_t>(key >> 32)});
    }
    const mx::Stream stream = cpu_stream();
    return mx::array({x.shape(0)}, mx::uint32, std::make_shared<Draw>(stream, std::move(draws)),
                     {mx::contiguous(x, false, stream)});
}

}  // namespace glasschat
