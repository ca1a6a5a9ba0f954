// A whole decoder layer: its operations one after another on memory that stays, with nothing between them. On a CPU a
// graph's bookkeeping costs some microseconds for each operation, which a step of one token would notice.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/attention.h"
#include "cpu/kv_store.h"
#include "cpu/matmul.h"
#include "cpu/packing.h"

namespace glasschat::cpu {

// Qwen2's layer: attention, then the MLP, each on a normalized copy of the stream and added back to it.
struct LayerWeights {
    std::vector<uint8_t> attention_norm;  // [E] of norm_type
    std::vector<uint8_t> mlp_norm;
    Float norm_type;
    // Matrices of the same input, whose outputs stand side by side: queries, keys, values; gate, up.
    std::vector<Matrix> qkv;
    std::vector<Matrix> gate_up;
    Matrix out;
    Matrix down;
    int64_t heads;
    int64_t kv_heads;
    int64_t size;  // of a head
    float theta;
    float eps;

    int64_t width() const { return qkv.front()->columns(); }
    int64_t inner() const { return down->columns(); }
};

// One step of a layer: x and y [T, E] of `type`, without gaps; keys and values are written before they are read.
struct LayerTask {
    const LayerWeights& weights;
    const Layout& layout;
    const void* x;
    void* y;
    Float type;
    Multiply multiply;
    KvRoom keys;
    KvRoom values;
};

// Rounds where the operations by themselves would, and so to the same numbers. Uses the thread pool.
void decoder_layer(const LayerTask& task);

}  // namespace glasschat::cpu
