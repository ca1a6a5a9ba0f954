// How each kernel is launched: the one table of grids, threadgroups, function constants and arguments, as functions of
// shapes and types. The host code launches what these return, and the tests run the very same in the emulator.
//
// Plain C++ that knows neither Metal nor MLX. Every function throws std::invalid_argument for a shape that its kernel
// is not made for; the caller then takes another implementation.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "metal/params.h"

namespace glasschat::metal {

enum class Type { f32, f16, bf16 };

// As in the kernels' names. Throws std::invalid_argument for another name.
Type type_named(const std::string& name);
std::string name(Type type);

// A function constant: a bool or an int.
struct Constant {
    int index;
    int value;
    bool is_bool;
};

struct Launch {
    std::string file;    // without its ending
    std::string kernel;  // host_name in that file
    std::array<uint32_t, 3> groups;
    std::array<uint32_t, 3> threads;  // of a threadgroup
    std::vector<Constant> constants;
    std::vector<std::byte> params;  // the kernel's struct of params.h, its last buffer
};

// y [rows, outputs] = x [rows, inputs] times a quantized matrix [outputs, inputs], plus a bias [outputs] where there is
// one. Buffers: x, words, scales, biases, bias, experts, sources, then y. What a launch does not need may be any array.
struct QuantizedShape {
    Type type;
    int bits;
    int group;
    int rows;
    int outputs;
    int inputs;
    bool bias = false;
    bool gather = false;  // row r is row sources[r] of x times matrix experts[r] of several; those of one expert are
                          // best side by side
};

// With more than one split, `multiply` writes floats [splits, rows, outputs] instead of y, and `sum` follows. Its
// buffers: those floats, bias, y.
struct QuantizedPlan {
    Launch multiply;
    int splits;
    std::optional<Launch> sum;
};
QuantizedPlan quantized(const QuantizedShape& shape);

enum class Kept { floats, int8, int4 };

// Attention over a KV pool [N, P, H, D] of the activations' type, or of integers.
struct AttentionShape {
    Type type;
    Kept kept;
    int heads;
    int kv_heads;
    int size;
    int block_size;
    int table_width;
    int query_stride;  // numbers between the starts of two tokens' queries
    float scale;

    bool operator==(const AttentionShape&) const = default;
};

// One launch, and what may follow it. Buffers of `attend`: q, keys, their scales and biases, values, their scales and
// biases (any array in place of scales and biases that are not), tiles, query starts [B + 1], context lengths [B],
// tables [B, W], then out; a decode has `parts` after it. With more than one split, `attend` writes floats [tiles, H,
// rows, splits, D] in place of out, and `parts` [tiles, H, rows, splits, 2] floats, else any array; `merge` follows.
// Its buffers: those two, tiles, query starts, context lengths, out.
struct AttentionPlan {
    std::vector<std::pair<int, int>> tiles;  // the sequence and its first row
    Launch attend;
    bool decodes;
    int rows;  // of a tile
    int splits;
    std::optional<Launch> merge;
};

// What a step needs: a launch for its decodes, and one for its chunks of prompts, if it has any.
std::vector<AttentionPlan> attention(const AttentionShape& shape, const std::vector<int64_t>& query_lens,
                                     const std::vector<int64_t>& context_lens);

// A launch of such a plan for queries that are so many numbers apart: nothing else of a plan depends on that.
Launch with_stride(Launch launch, int query_stride);

// Memory to other memory, in whole eights of bytes. Buffers: from, to.
Launch copy(int64_t bytes);

// An array with gaps, of items of 2 or 4 bytes, to memory without. Buffers: from, to. `first` is the place of the first
// element in the memory that is bound.
Launch gather(int item_bytes, const std::array<int, 4>& shape, const std::array<int, 4>& strides, int first);

// Rows [tokens, width] into a pool. Buffers: rows, slots, pool; or rows, slots, words, scales, biases.
Launch write_kv(Type type, Type pool, int tokens, int width, int stride);
Launch write_kv_groups(Type type, Kept kept, int tokens, int width, int stride);

// Buffers: x, added, weight, out, sum; `added` and `sum` may be any array if there is nothing to add.
Launch rms_norm(Type type, int rows, int width, int stride, float eps, bool add);

// Buffers: x, positions, out.
Launch rope(Type type, int tokens, int heads, int size, int stride, float theta);

// Buffers: gate, up, out.
Launch swiglu(Type type, int rows, int width, int gate_stride, int up_stride);

// Buffers: logits, listed, keys, temperatures, ids. A draw needs keys and temperatures, and `listed` candidates if
// their count is not that of the row; what is not needed may be any array. An id is `width` where the largest is not
// finite or a candidate is NaN.
Launch argmax(int rows, int width, int count, bool draw, bool listed);

// Buffers: rows, ids.
Launch largest(int rows, int width, int count);

}  // namespace glasschat::metal
