#include "primitives/largest.h"

#include <memory>
#include <vector>

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

}  // namespace glasschat
