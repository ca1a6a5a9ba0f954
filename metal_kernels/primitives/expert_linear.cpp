#include "primitives/expert_linear.h"

#include <memory>

#include "cpu/expert_linear.h"
#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "primitives/arrays.h"

namespace glasschat {

namespace {

class ExpertLinear : public CpuPrimitive {
  public:
    ExpertLinear(mx::Stream stream, std::vector<Matrix> experts, Rounding rounding)
        : CpuPrimitive(stream), experts_(std::move(experts)), rounding_(rounding) {}

    const char* name() const override { return "ExpertLinear"; }

    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        const mx::array &x = inputs[0], &chosen = inputs[1];
        mx::array& y = outputs[0];
        y.set_data(mx::allocator::malloc(y.nbytes()));
        if (y.size() == 0) {
            return;
        }
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        encoder.set_input_array(x);
        encoder.set_input_array(chosen);
        encoder.set_output_array(y);
        encoder.dispatch([experts = experts_, from = x.data<void>(), which = chosen.data<int32_t>(),
                          to = y.data<void>(), type = float_type(x.dtype(), "activations"),
                          rows = int64_t{chosen.shape(0)}, share = int64_t{chosen.shape(1)},
                          multiply = multiply(rounding_)] {
            cpu::expert_linear({experts, which, from, to, type, rows, share, multiply});
        });
    }

  private:
    std::vector<Matrix> experts_;
    Rounding rounding_;
};

}  // namespace

mx::array expert_linear(const mx::array& x, std::vector<Matrix> experts, const mx::array& chosen, Rounding rounding) {
    float_type(x.dtype(), "activations");
    need(!experts.empty(), "there is at least one expert");
    const int64_t rows = experts.front()->rows(), columns = experts.front()->columns();
    for (const Matrix& expert : experts) {
        need(expert->rows() == rows && expert->columns() == columns, "experts' matrices are all of one shape");
    }
    need(x.ndim() == 2 && x.shape(1) == columns, "activations are [T, I], with as many columns as the matrices");
    need(chosen.ndim() == 2 && chosen.shape(0) == x.shape(0) && mx::issubdtype(chosen.dtype(), mx::integer),
         "chosen experts are integers [T, K], for each row of the activations");
    const mx::Stream stream = cpu_stream();
    mx::Shape shape{chosen.shape(0), chosen.shape(1), static_cast<int>(rows)};
    return mx::array(std::move(shape), x.dtype(),
                     std::make_shared<ExpertLinear>(stream, std::move(experts), rounding),
                     {mx::contiguous(x, false, stream),
                      mx::contiguous(mx::astype(chosen, mx::int32, stream), false, stream)});
}

}  // namespace glasschat
