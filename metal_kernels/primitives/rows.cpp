#include "primitives/rows.h"

#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "cpu/rows.h"
#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "primitives/arrays.h"
#include "primitives/gpu.h"

namespace glasschat {

namespace {

// A primitive with one output of the first input's shape without gaps and type.
class OfRows : public CpuPrimitive {
  public:
    using CpuPrimitive::CpuPrimitive;

    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) final {
        mx::array& out = outputs[0];
        out.set_data(mx::allocator::malloc(out.nbytes()));
        if (out.size() == 0) {
            return;
        }
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        std::vector<mx::array> ready;
        for (const mx::array& input : inputs) {
            ready.push_back(usable(input) ? input : without_gaps(input, encoder));
            encoder.set_input_array(ready.back());
        }
        encoder.set_output_array(out);
        run(ready, out, encoder);
    }

  protected:
    virtual void run(const std::vector<mx::array>& inputs, mx::array& out, mx::cpu::CommandEncoder& encoder) = 0;

    static cpu::Rows rows(const mx::array& x) { return {x.data<void>(), x.strides(0)}; }

  private:
    // Whether only the rows have gaps between them.
    static bool usable(const mx::array& x) {
        int64_t expected = 1;
        for (int axis = static_cast<int>(x.ndim()) - 1; axis > 0; axis--) {
            if (x.shape(axis) != 1 && x.strides(axis) != expected) {
                return false;
            }
            expected *= x.shape(axis);
        }
        return x.ndim() > 1 || x.strides(0) == 1;
    }

    static mx::array without_gaps(const mx::array& x, mx::cpu::CommandEncoder& encoder) {
        mx::array copy(mx::allocator::malloc(x.nbytes()), x.shape(), x.dtype());
        encoder.add_temporary(copy);
        encoder.dispatch([from = x.data<uint8_t>(), to = copy.data<uint8_t>(), shape = x.shape(),
                          strides = x.strides(), item = x.itemsize()] {
            uint8_t* next = to;
            std::function<void(size_t, const uint8_t*)> walk = [&](size_t axis, const uint8_t* start) {
                if (axis == shape.size()) {
                    std::memcpy(next, start, item);
                    next += item;
                    return;
                }
                for (int64_t i = 0; i < shape[axis]; i++) {
                    walk(axis + 1, start + i * strides[axis] * static_cast<int64_t>(item));
                }
            };
            walk(0, from);
        });
        return copy;
    }
};

class RMSNorm : public OfRows {
  public:
    RMSNorm(mx::Stream stream, float eps) : OfRows(stream), eps_(eps) {}
    const char* name() const override { return "RMSNorm"; }

  protected:
    void run(const std::vector<mx::array>& inputs, mx::array& out, mx::cpu::CommandEncoder& encoder) override {
        const mx::array &x = inputs[0], &weight = inputs[1];
        const cpu::NormTask task{rows(x), weight.data<void>(), out.data<void>(), float_type(x.dtype(), "rows"),
                                 float_type(weight.dtype(), "a weight"), x.shape(0), x.shape(1), eps_};
        encoder.dispatch([task] { cpu::rms_norm(task); });
    }

  private:
    float eps_;
};

// Inputs without gaps: x, what is added, the weight. Outputs: the normalized sum, the sum.
class AddRMSNorm : public CpuPrimitive {
  public:
    AddRMSNorm(mx::Stream stream, float eps) : CpuPrimitive(stream), eps_(eps) {}
    const char* name() const override { return "AddRMSNorm"; }

    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        for (mx::array& out : outputs) {
            out.set_data(mx::allocator::malloc(out.nbytes()));
            encoder.set_output_array(out);
        }
        for (const mx::array& input : inputs) {
            encoder.set_input_array(input);
        }
        const mx::array &x = inputs[0], &weight = inputs[2];
        const cpu::NormTask task{{x.data<void>(), x.shape(1)},
                                 weight.data<void>(),
                                 outputs[0].data<void>(),
                                 float_type(x.dtype(), "rows"),
                                 float_type(weight.dtype(), "a weight"),
                                 x.shape(0),
                                 x.shape(1),
                                 eps_,
                                 inputs[1].data<void>(),
                                 outputs[1].data<void>()};
        encoder.dispatch([task] { cpu::rms_norm(task); });
    }

  private:
    float eps_;
};

class RoPE : public OfRows {
  public:
    RoPE(mx::Stream stream, float theta) : OfRows(stream), theta_(theta) {}
    const char* name() const override { return "RoPE"; }

  protected:
    void run(const std::vector<mx::array>& inputs, mx::array& out, mx::cpu::CommandEncoder& encoder) override {
        const mx::array &x = inputs[0], &positions = inputs[1];
        const cpu::RopeTask task{rows(x), positions.data<int32_t>(), out.data<void>(), float_type(x.dtype(), "heads"),
                                 x.shape(0), x.shape(1), x.shape(2), theta_};
        encoder.dispatch([task] { cpu::rope(task); });
    }

  private:
    float theta_;
};

class SiluMul : public OfRows {
  public:
    using OfRows::OfRows;
    const char* name() const override { return "SiluMul"; }

  protected:
    void run(const std::vector<mx::array>& inputs, mx::array& out, mx::cpu::CommandEncoder& encoder) override {
        const mx::array &gate = inputs[0], &up = inputs[1];
        const cpu::GateTask task{rows(gate), rows(up), out.data<void>(), float_type(gate.dtype(), "gates"),
                                 gate.shape(0), gate.shape(1)};
        encoder.dispatch([task] { cpu::silu_mul(task); });
    }
};

void need_norm(const mx::array& x, const mx::array& weight) {
    need(x.ndim() == 2 && weight.ndim() == 1 && weight.shape(0) == x.shape(1), "rows are [T, E], their weight is [E]");
    float_type(x.dtype(), "rows");
    float_type(weight.dtype(), "a weight");
}

}  // namespace

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps) {
    if (gpu::in_use()) {
        return gpu::rms_norm(x, weight, eps);
    }
    need_norm(x, weight);
    return mx::array(x.shape(), x.dtype(), std::make_shared<RMSNorm>(cpu_stream(), eps), {x, weight});
}

std::pair<mx::array, mx::array> add_rms_norm(const mx::array& x, const mx::array& added, const mx::array& weight,
                                             float eps) {
    if (gpu::in_use()) {
        return gpu::add_rms_norm(x, added, weight, eps);
    }
    need_norm(x, weight);
    need(added.shape() == x.shape() && added.dtype() == x.dtype(), "what is added is of the rows' shape and type");
    const mx::Stream stream = cpu_stream();
    const auto arrays = mx::array::make_arrays({x.shape(), x.shape()}, {x.dtype(), x.dtype()},
                                               std::make_shared<AddRMSNorm>(stream, eps),
                                               {mx::contiguous(x, false, stream), mx::contiguous(added, false, stream),
                                                mx::contiguous(weight, false, stream)});
    return {arrays[0], arrays[1]};
}

mx::array rope(const mx::array& x, const mx::array& positions, float theta) {
    if (gpu::in_use()) {
        return gpu::rope(x, positions, theta);
    }
    need(x.ndim() == 3 && positions.ndim() == 1 && positions.shape(0) == x.shape(0),
         "heads are [T, H, D], their positions are [T]");
    need(x.shape(2) % 2 == 0, "heads have an even size");
    need(mx::issubdtype(positions.dtype(), mx::integer), "positions are integers");
    float_type(x.dtype(), "heads");
    const mx::Stream stream = cpu_stream();
    return mx::array(x.shape(), x.dtype(), std::make_shared<RoPE>(stream, theta),
                     {x, mx::astype(positions, mx::int32, stream)});
}

mx::array silu_mul(const mx::array& gate, const mx::array& up) {
    if (gpu::in_use()) {
        return gpu::silu_mul(gate, up);
    }
    need(gate.ndim() == 2 && gate.shape() == up.shape() && gate.dtype() == up.dtype(),
         "gate and up are [T, I], of one type");
    float_type(gate.dtype(), "gates");
    return mx::array(gate.shape(), gate.dtype(), std::make_shared<SiluMul>(cpu_stream()), {gate, up});
}

}  // namespace glasschat
