#include "cpu/decoder_layer.h"

#include <cmath>
#include <cstring>

#include "cpu/rows.h"
#include "cpu/scratch.h"

namespace glasschat::cpu {

namespace {

// What a layer works in, in the type of its activations. A thread keeps it for the next layer.
struct Workspace {
    Scratch<uint8_t> normed, qkv, queries, keys, mixed, added, sum, gate_up, gated, part;
};

// x times all matrices, their outputs side by side in `out`.
void multiply_all(const LayerTask& task, const std::vector<Matrix>& matrices, const void* x, uint8_t* out, int64_t width,
                  Scratch<uint8_t>& room) {
    const int64_t rows = task.layout.tokens();
    if (matrices.size() == 1) {
        return task.multiply(*matrices.front(), {x, out, task.type, rows});
    }
    const int64_t item = bytes(task.type);
    for (const Matrix& matrix : matrices) {
        uint8_t* part = scratch(room, rows * matrix->rows() * item);
        task.multiply(*matrix, {x, part, task.type, rows});
        for (int64_t row = 0; row < rows; row++) {
            std::memcpy(out + row * width * item, part + row * matrix->rows() * item, matrix->rows() * item);
        }
        out += matrix->rows() * item;
    }
}

KvStore readable(const KvRoom& room) {
    return {room.elements, room.type, room.bits, room.scales, room.biases};
}

}  // namespace

void decoder_layer(const LayerTask& task) {
    const LayerWeights& weights = task.weights;
    const Layout& layout = task.layout;
    const Float type = task.type;
    const int64_t rows = layout.tokens(), width = weights.width(), inner = weights.inner(), item = bytes(type);
    const int64_t heads = weights.heads, kv_heads = weights.kv_heads, size = weights.size;
    const int64_t qkv_width = (heads + 2 * kv_heads) * size;
    static thread_local Workspace kept;
    const auto room = [&](Scratch<uint8_t>& place, int64_t columns) { return scratch(place, rows * columns * item); };

    uint8_t* normed = room(kept.normed, width);
    rms_norm({{task.x, width}, weights.attention_norm.data(), normed, type, weights.norm_type, rows, width, weights.eps});

    uint8_t* qkv = room(kept.qkv, qkv_width);
    multiply_all(task, weights.qkv, normed, qkv, qkv_width, kept.part);
    uint8_t *queries = room(kept.queries, heads * size), *keys = room(kept.keys, kv_heads * size);
    rope({{qkv, qkv_width}, layout.positions(), queries, type, rows, heads, size, weights.theta});
    rope({{qkv + heads * size * item, qkv_width}, layout.positions(), keys, type, rows, kv_heads, size, weights.theta});
    write_kv(layout, keys, kv_heads * size, type, task.keys);
    write_kv(layout, qkv + (heads + kv_heads) * size * item, qkv_width, type, task.values);

    uint8_t* mixed = room(kept.mixed, heads * size);
    attention({layout, queries, readable(task.keys), readable(task.values), mixed, type, heads, kv_heads, size,
               static_cast<float>(std::pow(static_cast<double>(size), -0.5))});
    uint8_t *added = room(kept.added, width), *sum = room(kept.sum, width);
    task.multiply(*weights.out, {mixed, added, type, rows});

    rms_norm({{task.x, width}, weights.mlp_norm.data(), normed, type, weights.norm_type, rows, width, weights.eps, added,
              sum});
    uint8_t *gate_up = room(kept.gate_up, 2 * inner), *gated = room(kept.gated, inner);
    multiply_all(task, weights.gate_up, normed, gate_up, 2 * inner, kept.part);
    silu_mul({{gate_up, 2 * inner}, {gate_up + inner * item, 2 * inner}, gated, type, rows, inner});
    task.multiply(*weights.down, {gated, added, type, rows});
    add({sum, added, task.y, type, rows, width});
}

}  // namespace glasschat::cpu
