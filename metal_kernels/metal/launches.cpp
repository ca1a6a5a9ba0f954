#include "metal/launches.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace glasschat::metal {

namespace {

constexpr int kLanes = 32;

// Threadgroups that keep a GPU busy: a few for each core of a large one. Work is shared out further only below this.
constexpr int kBusy = 96;

void need(bool ok, const std::string& message) {
    if (!ok) {
        throw std::invalid_argument(message);
    }
}

template <typename Params>
std::vector<std::byte> bytes_of(const Params& params) {
    std::vector<std::byte> bytes(sizeof params);
    std::memcpy(bytes.data(), &params, sizeof params);
    return bytes;
}

int divided_up(int64_t a, int64_t b) {
    return static_cast<int>((a + b - 1) / b);
}

int rounded_up(int a, int b) {
    return divided_up(a, b) * b;
}

uint32_t u(int64_t number) {
    return static_cast<uint32_t>(number);
}

Constant constant(int index, bool value) {
    return {index, value ? 1 : 0, true};
}

Constant constant(int index, int value) {
    return {index, value, false};
}

// Of the columns, in parts of whole `unit`s: enough parts to make `groups` threadgroups many, none below `least`.
int split_inputs(int groups, int inputs, int unit, int least) {
    const int splits = std::clamp(inputs / least, 1, groups < kBusy / 2 ? divided_up(kBusy, groups) : 1);
    return rounded_up(divided_up(inputs, splits), unit);
}

std::string name(Kept kept) {
    return kept == Kept::floats ? "float" : kept == Kept::int8 ? "int8" : "int4";
}

constexpr int kPromptRows = 32;
constexpr int kFewRows = 16;  // up to this many rows, a sequence is a decode

// So is one of more rows, where chunks of prompts alone would leave a GPU idle over a long context: decodes share it out.
constexpr int kMoreRows = 64;
constexpr int64_t kLongContext = 1024;

constexpr const char* kEvenQueries = "queries begin at multiples of four numbers";

}  // namespace

Type type_named(const std::string& name) {
    need(name == "f32" || name == "f16" || name == "bf16", name + " is no type of the Metal kernels");
    return name == "f32" ? Type::f32 : name == "f16" ? Type::f16 : Type::bf16;
}

std::string name(Type type) {
    return type == Type::f32 ? "f32" : type == Type::f16 ? "f16" : "bf16";
}

QuantizedPlan quantized(const QuantizedShape& s) {
    need(s.bits == 4 || s.bits == 8, "quantized matrices have 4 or 8 bits");
    need(s.group == 32 || s.group == 64 || s.group == 128, "groups are 32, 64 or 128 columns");
    need(s.rows > 0 && s.outputs > 0 && s.inputs > 0 && s.inputs % s.group == 0, "groups must divide the columns");
    Launch launch;
    int part, splits;
    const std::string kind = name(s.type) + "_b" + std::to_string(s.bits);
    if (s.rows <= 8) {
        const int rows = s.gather || s.rows == 1 ? 1 : s.rows == 2 ? 2 : s.rows <= 4 ? 4 : 8;
        const int across = divided_up(s.outputs, 8), down = divided_up(s.rows, rows);
        part = split_inputs(across * down, s.inputs, 128, 1024);
        splits = divided_up(s.inputs, part);
        launch = {"quantized_matvec", "quantized_matvec_" + kind + "_r" + std::to_string(rows),
                  {u(across), u(down), u(splits)}, {64, 1, 1}, {}, {}};
    } else {
        const bool large = int64_t{divided_up(s.rows, 64)} * divided_up(s.outputs, 64) >= kBusy;
        const int side = large ? 64 : 32;
        const int across = divided_up(s.outputs, side), down = divided_up(s.rows, side);
        part = split_inputs(across * down, s.inputs, 32, 256);
        splits = divided_up(s.inputs, part);
        const std::string tile = std::to_string(side) + "x" + std::to_string(side);
        launch = {"quantized_matmul", "quantized_matmul_" + kind + "_" + tile,
                  {u(across), u(down), u(splits)}, {128, 1, 1}, {}, {}};
    }
    launch.constants = {constant(0, s.group), constant(1, s.bias), constant(2, s.gather), constant(3, splits > 1)};
    launch.params = bytes_of(QuantizedParams{s.rows, s.outputs, s.inputs, part});
    if (splits == 1) {
        return {launch, 1, std::nullopt};
    }
    const int threads = std::min(256, rounded_up(s.outputs, kLanes));
    const Launch sum{"split_sum", "split_sum_" + name(s.type),
                     {u(divided_up(s.outputs, threads)), u(s.rows), 1}, {u(threads), 1, 1},
                     {constant(1, s.bias)}, bytes_of(SplitSumParams{s.rows, s.outputs, splits})};
    return {launch, splits, sum};
}

std::vector<AttentionPlan> attention(const AttentionShape& s, const std::vector<int64_t>& query_lens,
                                     const std::vector<int64_t>& context_lens) {
    need(s.size == 64 || s.size == 80 || s.size == 96 || s.size == 128, "heads have 64, 80, 96 or 128 elements");
    need(s.kept == Kept::floats || s.size % 32 == 0, "heads kept as integers have a multiple of 32 elements");
    need(s.query_stride % 4 == 0, kEvenQueries);
    need(s.kv_heads > 0 && s.heads % s.kv_heads == 0, "the query heads are a multiple of the key heads");
    need(query_lens.size() == context_lens.size(), "every sequence has a query and a context length");
    const int share = s.heads / s.kv_heads;
    const auto rows_of = [&](size_t sequence) { return static_cast<int>(query_lens[sequence]) * share; };
    const int few = std::max(kFewRows, share);  // one token is always a decode
    int chunks = 0;  // threadgroups for all that is more
    for (size_t i = 0; i < query_lens.size(); i++) {
        chunks += rows_of(i) <= few ? 0 : divided_up(rows_of(i), kPromptRows) * s.kv_heads;
    }
    const auto decodes = [&](size_t sequence) {
        return rows_of(sequence) <= few ||
               (rows_of(sequence) <= kMoreRows && chunks < kBusy && context_lens[sequence] >= kLongContext);
    };
    int most_rows = 0;    // of a decode
    int64_t longest = 0;  // context of a decode
    for (size_t i = 0; i < query_lens.size(); i++) {
        if (decodes(i)) {
            most_rows = std::max(most_rows, rows_of(i));
            longest = std::max(longest, context_lens[i]);
        }
    }
    const int decode_rows = most_rows > 2 ? 4 : std::max(most_rows, 1);
    std::vector<std::pair<int, int>> of_decodes, of_prompts;
    for (size_t i = 0; i < query_lens.size(); i++) {
        const bool decode = decodes(i);
        for (int row = 0; row < rows_of(i); row += decode ? decode_rows : kPromptRows) {
            (decode ? of_decodes : of_prompts).emplace_back(static_cast<int>(i), row);
        }
    }
    const std::string kind = name(s.type) + "_" + name(s.kept) + "_d" + std::to_string(s.size);
    AttentionParams params{s.heads, s.kv_heads, s.table_width, 0, 1, s.query_stride, s.scale};
    std::vector<AttentionPlan> plans;
    if (!of_decodes.empty()) {
        const int groups = static_cast<int>(of_decodes.size()) * s.kv_heads;
        const int wanted = std::max(1, kBusy / groups);
        params.part = std::max(256, rounded_up(divided_up(longest, wanted), 64));
        params.splits = std::max(1, divided_up(longest, params.part));
        const Launch attend{"attention_decode", "attention_decode_" + kind + "_r" + std::to_string(decode_rows),
                            {u(of_decodes.size()), u(s.kv_heads), u(params.splits)}, {128, 1, 1},
                            {constant(0, s.block_size), constant(1, params.splits > 1)}, bytes_of(params)};
        std::optional<Launch> merge;
        if (params.splits > 1) {
            merge = {"attention_merge", "attention_merge_" + name(s.type) + "_d" + std::to_string(s.size),
                     {u(of_decodes.size()), u(s.kv_heads), 1}, {u(decode_rows * kLanes), 1, 1},
                     {constant(0, s.block_size), constant(1, true), constant(2, decode_rows)}, bytes_of(params)};
        }
        plans.push_back({of_decodes, attend, true, decode_rows, params.splits, merge});
    }
    if (!of_prompts.empty()) {
        params.part = params.splits = 1;
        const Launch attend{"attention_prefill", "attention_prefill_" + kind,
                            {u(of_prompts.size()), u(s.kv_heads), 1}, {128, 1, 1},
                            {constant(0, s.block_size), constant(1, false)}, bytes_of(params)};
        plans.push_back({of_prompts, attend, false, kPromptRows, 1, std::nullopt});
    }
    return plans;
}

Launch with_stride(Launch launch, int query_stride) {
    need(query_stride % 4 == 0, kEvenQueries);
    AttentionParams params;
    std::memcpy(&params, launch.params.data(), sizeof params);
    params.query_stride = query_stride;
    launch.params = bytes_of(params);
    return launch;
}

Launch copy(int64_t bytes) {
    need(bytes > 0 && bytes % 8 == 0 && bytes / 8 <= INT32_MAX, "memory is copied in eights of bytes");
    const int eights = static_cast<int>(bytes / 8);
    return {"copy", "copy_bytes", {u(divided_up(eights, 256)), 1, 1}, {256, 1, 1}, {}, bytes_of(CopyParams{eights})};
}

Launch gather(int item_bytes, const std::array<int, 4>& shape, const std::array<int, 4>& strides, int first) {
    need(item_bytes == 2 || item_bytes == 4, "items of 2 or 4 bytes are gathered");
    GatherParams params{};
    int64_t count = 1;
    for (int axis = 0; axis < 4; axis++) {
        params.shape[axis] = shape[axis], params.strides[axis] = strides[axis];
        count *= shape[axis];
    }
    params.first = first;
    need(count > 0 && count <= INT32_MAX, "at most 2^31 elements are gathered");
    return {"copy", "gather_" + std::to_string(item_bytes), {u(divided_up(count, 256)), 1, 1}, {256, 1, 1}, {},
            bytes_of(params)};
}

Launch write_kv(Type type, Type pool, int tokens, int width, int stride) {
    need(tokens > 0 && width > 0 && width % 4 == 0 && stride % 4 == 0,
         "a token's heads are a multiple of four numbers");
    const int threads = std::min(256, rounded_up(width / 4, kLanes));
    return {"write_kv", "write_kv_" + name(type) + "_" + name(pool),
            {u(divided_up(width / 4, threads)), u(tokens), 1}, {u(threads), 1, 1}, {},
            bytes_of(WriteKvParams{width, stride})};
}

Launch write_kv_groups(Type type, Kept kept, int tokens, int width, int stride) {
    need(kept != Kept::floats && tokens > 0 && width > 0 && width % 32 == 0, "integers are kept in groups of 32");
    return {"write_kv", "write_kv_" + name(type) + "_" + name(kept),
            {u(divided_up(width, 128)), u(tokens), 1}, {128, 1, 1}, {}, bytes_of(WriteKvParams{width, stride})};
}

Launch rms_norm(Type type, int rows, int width, int stride, float eps, bool add) {
    constexpr int kMostThreads = 1024, kMostHeld = 4;
    need(rows > 0 && width > 0 && width % 4 == 0 && stride % 4 == 0,
         "rows to normalize are a multiple of four numbers");
    need(width <= 4 * kMostThreads * kMostHeld, "rows to normalize have at most 16384 numbers");
    const int held = divided_up(width, 4 * kMostThreads);
    const int threads = rounded_up(divided_up(width, 4 * held), kLanes);
    return {"rms_norm", "rms_norm_" + name(type), {u(rows), 1, 1}, {u(threads), 1, 1},
            {constant(0, add), constant(1, held)}, bytes_of(RmsNormParams{width, stride, eps})};
}

Launch rope(Type type, int tokens, int heads, int size, int stride, float theta) {
    need(tokens > 0 && heads > 0 && size > 0 && size % 2 == 0 && size <= 2048, "heads have an even size, up to 2048");
    return {"rope", "rope_" + name(type), {1, u(divided_up(heads, 4)), u(tokens)}, {u(size / 2), 1, 1}, {},
            bytes_of(RopeParams{heads, size, stride, std::log2(theta)})};
}

Launch swiglu(Type type, int rows, int width, int gate_stride, int up_stride) {
    need(rows > 0 && width > 0 && width % 4 == 0 && gate_stride % 4 == 0 && up_stride % 4 == 0,
         "gates are a multiple of four numbers");
    const int threads = std::min(256, rounded_up(width / 4, kLanes));
    return {"swiglu", "swiglu_" + name(type), {u(divided_up(width / 4, threads)), u(rows), 1}, {u(threads), 1, 1}, {},
            bytes_of(SwigluParams{width, gate_stride, up_stride})};
}

Launch argmax(int rows, int width, int count, bool draw, bool listed) {
    need(rows > 0 && width > 0 && count > 0 && (listed || count == width), "candidates that are not listed are all");
    const int threads = std::min(1024, rounded_up(count, kLanes));
    return {"argmax", "argmax_f32", {u(rows), 1, 1}, {u(threads), 1, 1}, {constant(0, draw), constant(1, listed)},
            bytes_of(ArgmaxParams{width, count})};
}

Launch largest(int rows, int width, int count) {
    need(rows > 0 && count > 0 && count <= width && count <= 1024, "from 1 to 1024 numbers of a row can be asked for");
    int sorted = 1;
    while (sorted < count) {
        sorted *= 2;
    }
    return {"largest", "largest_f32", {u(rows), 1, 1}, {1024, 1, 1}, {constant(0, sorted)},
            bytes_of(LargestParams{width, count})};
}

}  // namespace glasschat::metal
