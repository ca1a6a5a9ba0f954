#include "primitives/decoder_layer.h"

#include <numeric>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "primitives/arrays.h"

namespace glasschat {

namespace {

class DecoderLayer : public CpuPrimitive {
  public:
    DecoderLayer(mx::Stream stream, PackedLayer layer, Layout layout, PoolShape pool, Rounding rounding)
        : CpuPrimitive(stream),
          layer_(std::move(layer)),
          layout_(std::move(layout)),
          pool_(pool),
          rounding_(rounding) {}

    const char* name() const override { return "DecoderLayer"; }

    // Inputs: x, then the arrays of the keys, then those of the values, which are written in place: an operation that had
    // them as outputs would be given copies.
    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        const mx::array& x = inputs[0];
        mx::array& y = outputs[0];
        encoder.set_input_array(x);
        if (x.is_donatable()) {
            y.copy_shared_buffer(x);
        } else {
            y.set_data(mx::allocator::malloc(y.nbytes()));
        }
        encoder.set_output_array(y);
        const size_t parts = inputs.size() / 2;
        const cpu::KvRoom keys = room_in(inputs, 1, pool_, encoder);
        const cpu::KvRoom values = room_in(inputs, 1 + parts, pool_, encoder);
        encoder.dispatch([layer = layer_, layout = layout_, from = x.data<void>(), to = y.data<void>(),
                          type = float_type(x.dtype(), "activations"), rounding = rounding_, keys, values] {
            cpu::decoder_layer({*layer, *layout, from, to, type, multiply(rounding), keys, values});
        });
    }

  private:
    PackedLayer layer_;
    Layout layout_;
    PoolShape pool_;
    Rounding rounding_;
};

int64_t outputs_of(const std::vector<Matrix>& matrices) {
    return std::accumulate(matrices.begin(), matrices.end(), int64_t{0},
                           [](int64_t sum, const Matrix& matrix) { return sum + matrix->rows(); });
}

std::vector<uint8_t> numbers_of(const mx::array& norm, int64_t width) {
    need(norm.ndim() == 1 && norm.shape(0) == width, "a layer's norms have as many numbers as its input");
    mx::array ready = mx::contiguous(norm, false, mx::Device::cpu);
    ready.eval();
    return {ready.data<uint8_t>(), ready.data<uint8_t>() + ready.nbytes()};
}

}  // namespace

PackedLayer pack_layer(const mx::array& attention_norm, std::vector<Matrix> qkv, Matrix out, const mx::array& mlp_norm,
                       std::vector<Matrix> gate_up, Matrix down, const LayerShape& shape) {
    need(!qkv.empty() && !gate_up.empty(), "a layer has matrices to queries, keys and values, and to gate and up");
    need(shape.heads > 0 && shape.kv_heads > 0 && shape.size > 0 && shape.size % 2 == 0, "heads have an even size");
    const int64_t width = qkv.front()->columns(), inner = down->columns();
    for (const std::vector<Matrix>* matrices : {&qkv, &gate_up}) {
        for (const Matrix& matrix : *matrices) {
            need(matrix->columns() == width, "a layer's matrices have as many columns as its input");
        }
    }
    need(outputs_of(qkv) == (shape.heads + 2 * shape.kv_heads) * shape.size, "queries, keys and values fill their heads");
    need(out->columns() == shape.heads * shape.size && out->rows() == width, "attention's output is as wide as its input");
    need(outputs_of(gate_up) == 2 * inner && down->rows() == width, "gate and up are as wide as the input of down");
    need(attention_norm.dtype() == mlp_norm.dtype(), "a layer's norms have one type");
    const cpu::Float type = float_type(attention_norm.dtype(), "norms");
    return std::make_shared<const cpu::LayerWeights>(
        cpu::LayerWeights{numbers_of(attention_norm, width), numbers_of(mlp_norm, width), type, std::move(qkv),
                          std::move(gate_up), std::move(out), std::move(down), shape.heads, shape.kv_heads, shape.size,
                          shape.theta, shape.eps});
}

mx::array decoder_layer(const mx::array& x, const PackedLayer& layer, const Store& keys, const Store& values,
                        const Layout& layout, Rounding rounding) {
    float_type(x.dtype(), "activations");
    need(x.ndim() == 2 && x.shape(0) == layout->tokens() && x.shape(1) == layer->width(),
         "a layer's input is [T, E], with as many tokens as the layout");
    const PoolShape pool = checked(keys, values, *layout);
    need(pool.heads == layer->kv_heads && pool.size == layer->size, "layer and pool have the same key heads");
    check_heads(layer->heads, pool);
    const mx::Stream stream = cpu_stream();
    std::vector<mx::array> inputs{mx::contiguous(x, false, stream)};
    for (const Store* store : {&keys, &values}) {
        inputs.insert(inputs.end(), store->begin(), store->end());
    }
    return mx::array(x.shape(), x.dtype(), std::make_shared<DecoderLayer>(stream, layer, layout, pool, rounding), inputs);
}

}  // namespace glasschat
