#include "primitives/largest.h"

#include <memory>
#include <vector>

#include "cpu/largest.h"
#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "primitives/arrays.h"

namespace glasschat {

namespace mx = mlx::core;

namespace {

class Largest : public CpuPrimitive {
  public:
    using CpuPrimitive::CpuPrimitive;

    const char* name() const override { return "Largest"; }

    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        const mx::array& x = inputs[0];
        mx::array& ids = outputs[0];
        ids.set_data(mx::allocator::malloc(ids.nbytes()));
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        encoder.set_input_array(x);
        encoder.set_output_array(ids);
        encoder.dispatch([from = x.data<float>(), rows = int64_t{x.shape(0)}, width = int64_t{x.shape(1)},
                          count = int64_t{ids.shape(1)},
                          to = ids.data<uint32_t>()] { cpu::largest(from, rows, width, count, to); });
    }
};

}  // namespace

mx::array largest(const mx::array& x, int count) {
    need(x.ndim() == 2 && x.dtype() == mx::float32, "rows to choose from are float32 [R, V]");
    need(count >= 1 && count <= x.shape(1), "from 1 to all numbers of a row can be asked for");
    const mx::Stream stream = cpu_stream();
    return mx::array({x.shape(0), count}, mx::uint32, std::make_shared<Largest>(stream),
                     {mx::contiguous(x, false, stream)});
}

}  // namespace glasschat
