#include <functional>
#include <memory>

#include "mlx/allocator.h"
#include "mlx/ops.h"
#include "primitives/arrays.h"
#include "primitives/gpu.h"

namespace glasschat::gpu {

namespace {

constexpr Slot in(int number) {
    return {Slot::input, number};
}

constexpr Slot out(int number) {
    return {Slot::output, number};
}

// One launch with one output.
mx::array launched(const char* name, metal::Type type, metal::Launch launch, std::vector<Slot> slots, mx::Shape shape,
                   mx::Dtype dtype, std::vector<mx::array> inputs) {
    const std::vector<Step> steps{{std::move(launch), std::move(slots)}};
    return mx::array(std::move(shape), dtype, std::make_shared<Launches>(stream(), name, type, steps),
                     std::move(inputs));
}

// One launch with one output, of kernels that take rows with gaps between them as they lie: its first inputs.
class OfRows : public Launches {
  public:
    // The launch for the numbers between the starts of two rows of each such input.
    using ForStrides = std::function<metal::Launch(const std::vector<int>& strides)>;

    OfRows(const char* name, metal::Type type, int with_rows, ForStrides launch, std::vector<Slot> slots)
        : Launches(gpu::stream(), name, type, {}),
          with_rows_(with_rows),
          launch_(std::move(launch)),
          slots_(std::move(slots)) {}

  protected:
    void launch(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        mx::array& out = outputs[0];
        out.set_data(mx::allocator::malloc(out.nbytes()));
        if (out.size() == 0) {
            return;
        }
        std::vector<mx::array> given = inputs;
        std::vector<int> strides;
        for (int i = 0; i < static_cast<int>(given.size()); i++) {
            if (i >= with_rows_ || !has_even_rows(given[i])) {
                given[i] = ready(given[i]);
            }
            const int width = static_cast<int>(given[i].size() / given[i].shape(0));
            strides.push_back(given[i].shape(0) == 1 ? width : static_cast<int>(given[i].strides(0)));
        }
        run({launch_(strides), slots_}, given, outputs, {});
    }

  private:
    int with_rows_;
    ForStrides launch_;
    std::vector<Slot> slots_;
};

// Its shape and type are those of its first input. The launch for rows without gaps is made at once, for its
// complaints.
mx::array of_rows(const char* name, metal::Type type, int with_rows, OfRows::ForStrides launch, std::vector<Slot> slots,
                  std::vector<mx::array> inputs) {
    const mx::array& x = inputs[0];
    const int width = x.shape(0) ? static_cast<int>(x.size() / x.shape(0)) : 0;
    if (x.size() > 0) {
        launch(std::vector<int>(inputs.size(), width));
    }
    return mx::array(x.shape(), x.dtype(),
                     std::make_shared<OfRows>(name, type, with_rows, std::move(launch), std::move(slots)), inputs);
}

struct Gathered {
    mx::array experts, sources;
};

mx::array multiplied(const mx::array& x, const QuantizedMatrix& m, const std::optional<mx::array>& bias,
                     const std::optional<Gathered>& gathered, mx::Shape shape) {
    const metal::Type type = type_of(x.dtype(), "activations");
    const int last = static_cast<int>(m.words.ndim()) - 1, inputs = x.shape(-1);
    need(m.words.dtype() == mx::uint32 && m.words.shape(last) * 32 == inputs * m.bits,
         "quantized elements are words [O, I * bits / 32] of uint32");
    mx::Shape groups = m.words.shape();
    groups[last] = inputs / m.group;
    need(m.scales.shape() == groups && m.biases.shape() == groups, "scales and biases are [O, I / group_size]");
    need(m.scales.dtype() == x.dtype() && m.biases.dtype() == x.dtype(), "scales and biases are of x's type");
    const int rows = gathered ? gathered->experts.shape(0) : static_cast<int>(x.size() / inputs);
    const int outputs = shape.back();
    if (rows == 0) {
        return mx::zeros(std::move(shape), x.dtype(), stream());
    }
    const metal::QuantizedPlan plan = metal::quantized(
        {type, m.bits, m.group, rows, outputs, inputs, bias.has_value(), gathered.has_value()});
    // x may have more dimensions than `ready` takes.
    std::vector<mx::array> arrays{mx::contiguous(x, false, stream()), m.words, m.scales, m.biases};
    Slot bias_at = in(0), experts_at = in(0), sources_at = in(0);
    if (bias) {
        need(bias->ndim() == 1 && bias->shape(0) == outputs && bias->dtype() == x.dtype(),
             "a bias is [O], of x's type");
        bias_at = in(4);
        arrays.push_back(*bias);
    }
    if (gathered) {
        const int next = static_cast<int>(arrays.size());
        experts_at = in(next), sources_at = in(next + 1);
        arrays.push_back(mx::astype(gathered->experts, mx::uint32, stream()));
        arrays.push_back(mx::astype(gathered->sources, mx::uint32, stream()));
    }
    const Slot y = plan.sum ? Slot{Slot::left, 0} : out(0);
    std::vector<Step> steps{{plan.multiply, {in(0), in(1), in(2), in(3), bias_at, experts_at, sources_at, y}}};
    std::vector<Between> kept;
    if (plan.sum) {
        steps.push_back({*plan.sum, {{Slot::between, 0}, bias_at, out(0)}});
        kept.push_back({{plan.splits, rows, outputs}, mx::float32});
    }
    return mx::array(std::move(shape), x.dtype(),
                     std::make_shared<Launches>(stream(), "QuantizedLinear", type, steps, kept), arrays);
}

void need_norm(const mx::array& x, const mx::array& weight) {
    need(x.ndim() == 2 && weight.ndim() == 1 && weight.shape(0) == x.shape(1), "rows are [T, E], their weight is [E]");
    float_type(weight.dtype(), "a weight");
}

void need_logits(const mx::array& x) {
    need(x.ndim() == 2 && x.dtype() == mx::float32, "rows to choose from are float32 [R, V]");
}

}  // namespace

mx::array linear(const mx::array& x, const QuantizedMatrix& matrix, const std::optional<mx::array>& bias) {
    need(x.ndim() >= 1 && matrix.words.ndim() == 2, "activations are [..., I], a quantized matrix has two dimensions");
    mx::Shape shape = x.shape();
    shape.back() = matrix.words.shape(0);
    return multiplied(x, matrix, bias, std::nullopt, std::move(shape));
}

mx::array gather_linear(const mx::array& x, const QuantizedMatrix& matrices, const mx::array& experts,
                        const mx::array& sources) {
    need(x.ndim() == 2 && matrices.words.ndim() == 3,
         "activations are [T, I], experts' matrices have three dimensions");
    need(experts.ndim() == 1 && sources.shape() == experts.shape(), "experts and sources are [R]");
    mx::Shape shape{experts.shape(0), matrices.words.shape(1)};
    return multiplied(x, matrices, std::nullopt, Gathered{experts, sources}, std::move(shape));
}

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps) {
    need_norm(x, weight);
    const metal::Type type = type_of(x.dtype(), "rows");
    const int rows = x.shape(0), width = x.shape(1);
    const auto launch = [=](const std::vector<int>& strides) {
        return metal::rms_norm(type, rows, width, strides[0], eps, false);
    };
    return of_rows("RMSNorm", type, 1, launch, {in(0), in(0), in(1), out(0), in(0)},
                   {x, mx::astype(weight, x.dtype(), stream())});
}

std::pair<mx::array, mx::array> add_rms_norm(const mx::array& x, const mx::array& added, const mx::array& weight,
                                             float eps) {
    need_norm(x, weight);
    need(added.shape() == x.shape() && added.dtype() == x.dtype(), "what is added is of the rows' shape and type");
    const metal::Type type = type_of(x.dtype(), "rows");
    if (x.shape(0) == 0) {
        return {x, x};
    }
    const int width = x.shape(1);
    const std::vector<Step> steps{
        {metal::rms_norm(type, x.shape(0), width, width, eps, true), {in(0), in(1), in(2), out(0), out(1)}}};
    const auto arrays = mx::array::make_arrays({x.shape(), x.shape()}, {x.dtype(), x.dtype()},
                                               std::make_shared<Launches>(stream(), "AddRMSNorm", type, steps),
                                               {x, added, mx::astype(weight, x.dtype(), stream())});
    return {arrays[0], arrays[1]};
}

mx::array rope(const mx::array& x, const mx::array& positions, float theta) {
    need(x.ndim() == 3 && positions.ndim() == 1 && positions.shape(0) == x.shape(0),
         "heads are [T, H, D], their positions are [T]");
    need(mx::issubdtype(positions.dtype(), mx::integer), "positions are integers");
    const metal::Type type = type_of(x.dtype(), "heads");
    const int tokens = x.shape(0), heads = x.shape(1), size = x.shape(2);
    const auto launch = [=](const std::vector<int>& strides) {
        return metal::rope(type, tokens, heads, size, strides[0], theta);
    };
    return of_rows("RoPE", type, 1, launch, {in(0), in(1), out(0)}, {x, mx::astype(positions, mx::int32, stream())});
}

mx::array silu_mul(const mx::array& gate, const mx::array& up) {
    need(gate.ndim() == 2 && gate.shape() == up.shape() && gate.dtype() == up.dtype(),
         "gate and up are [T, I], of one type");
    const metal::Type type = type_of(gate.dtype(), "gates");
    const int rows = gate.shape(0), width = gate.shape(1);
    const auto launch = [=](const std::vector<int>& strides) {
        return metal::swiglu(type, rows, width, strides[0], strides[1]);
    };
    return of_rows("SiluMul", type, 2, launch, {in(0), in(1), out(0)}, {gate, up});
}

// Which of the sources' types these two are compiled with is the same to them.
mx::array largest(const mx::array& x, int count) {
    need_logits(x);
    if (x.shape(0) == 0) {
        return mx::zeros({0, count}, mx::uint32, stream());
    }
    return launched("Largest", metal::Type::f32, metal::largest(x.shape(0), x.shape(1), count), {in(0), out(0)},
                    {x.shape(0), count}, mx::uint32, {x});
}

mx::array greedy(const mx::array& x) {
    need_logits(x);
    if (x.shape(0) == 0) {
        return mx::zeros({0}, mx::uint32, stream());
    }
    return launched("Greedy", metal::Type::f32, metal::argmax(x.shape(0), x.shape(1), x.shape(1), false, false),
                    {in(0), in(0), in(0), in(0), out(0)}, {x.shape(0)}, mx::uint32, {x});
}

mx::array draw(const mx::array& x, const std::optional<mx::array>& listed, const mx::array& keys,
               const mx::array& temperatures) {
    need_logits(x);
    const int rows = x.shape(0), width = x.shape(1);
    need(keys.dtype() == mx::uint32 && keys.shape() == mx::Shape{rows, 2}, "keys of a draw are uint32 [R, 2]");
    need(temperatures.dtype() == mx::float32 && temperatures.shape() == mx::Shape{rows}, "temperatures are float32 [R]");
    if (rows == 0) {
        return mx::zeros({0}, mx::uint32, stream());
    }
    if (!listed) {
        return launched("Draw", metal::Type::f32, metal::argmax(rows, width, width, true, false),
                        {in(0), in(0), in(1), in(2), out(0)}, {rows}, mx::uint32, {x, keys, temperatures});
    }
    need(listed->ndim() == 2 && listed->shape(0) == rows && listed->dtype() == mx::uint32,
         "candidates of a draw are uint32 [R, n]");
    return launched("Draw", metal::Type::f32, metal::argmax(rows, width, listed->shape(1), true, true),
                    {in(0), in(3), in(1), in(2), out(0)}, {rows}, mx::uint32, {x, keys, temperatures, *listed});
}

}  // namespace glasschat::gpu
