#include "cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "cpu/dispatch.h"
#include "cpu/pool.h"
#include "cpu/scratch.h"

namespace glasschat::cpu {

Layout::Layout(std::vector<int64_t> query_lens, std::vector<int64_t> context_lens, std::vector<int32_t> tables,
               int64_t width, int64_t block_size)
    : query_lens_(std::move(query_lens)),
      context_lens_(std::move(context_lens)),
      tables_(std::move(tables)),
      width_(width),
      block_size_(block_size) {
    const auto count = static_cast<int64_t>(query_lens_.size());
    if (count == 0 || context_lens_.size() != query_lens_.size() || width < 1 || block_size < 1 ||
        static_cast<int64_t>(tables_.size()) != count * width) {
        throw std::invalid_argument("a layout needs at least one sequence, and as many lengths as rows of the table");
    }
    starts_.resize(count + 1);
    for (int64_t i = 0; i < count; i++) {
        const int64_t context = context_lens_[i];
        if (query_lens_[i] < 1 || query_lens_[i] > context || context > width * block_size) {
            throw std::invalid_argument(std::to_string(query_lens_[i]) + " queries, a context of " +
                                        std::to_string(context) + " tokens and a table of " + std::to_string(width) +
                                        " blocks do not belong together");
        }
        starts_[i + 1] = starts_[i] + query_lens_[i];
        for (int64_t position = context - query_lens_[i]; position < context; position++) {
            positions_.push_back(static_cast<int32_t>(position));
        }
        const int32_t* table = tables_.data() + i * width;
        for (int64_t block = 0; block < (context + block_size - 1) / block_size; block++) {
            if (table[block] < 0) {
                throw std::invalid_argument("a block table has the negative block " + std::to_string(table[block]));
            }
            last_block_ = std::max<int64_t>(last_block_, table[block]);
        }
    }
}

namespace {

const AttentionKernels& kernels() {
    return GLASSCHAT_IN_FORCE(Attention);
}

// A context is worth splitting among threads from so many keys of a head on: adding pieces up costs about as much as 64.
constexpr int64_t kShortestPart = 512;

// Pieces for each thread, where a context is split: one that is held up leaves its share to the others.
constexpr int64_t kPiecesPerThread = 4;

// The pieces of one (sequence, run of queries, run of key heads), which all see the same rows: `parts` of them from
// `first` on.
struct Run {
    int64_t first;
    int64_t parts;
};

struct Plan {
    std::vector<AttentionPiece> pieces;
    std::vector<Run> runs;
};

int64_t rows_of(const AttentionTask& task, const AttentionPiece& piece) {
    return (piece.end_head - piece.first_head) * (piece.end_query - piece.first_query) * (task.heads / task.kv_heads);
}

// Calls body(piece) for the whole context of each run. A run has as many heads as its rows have room for: keys of one
// token stand side by side, and memory is read fastest in its order.
template <class Body>
void for_each_run(const AttentionTask& task, const Body& body) {
    const Layout& layout = task.layout;
    const int64_t share = task.heads / task.kv_heads;
    const int64_t queries_at_once = std::max<int64_t>(1, kMostRows / share);
    for (int64_t sequence = 0; sequence < layout.sequences(); sequence++) {
        const int64_t queries = layout.query_len(sequence), before = layout.context_len(sequence) - queries;
        for (int64_t first = 0; first < queries; first += queries_at_once) {
            const int64_t end = std::min(queries, first + queries_at_once);
            const int64_t heads_at_once = std::max<int64_t>(1, kMostRows / ((end - first) * share));
            for (int64_t head = 0; head < task.kv_heads; head += heads_at_once) {
                const int64_t end_head = std::min(task.kv_heads, head + heads_at_once);
                body(AttentionPiece{sequence, head, end_head, first, end, 0, before + end});
            }
        }
    }
}

Plan plan(const AttentionTask& task) {
    int64_t work = 0;
    for_each_run(task, [&](const AttentionPiece& run) { work += (run.end_head - run.first_head) * run.end_key; });
    // None shall be longer than a thread's share, so that no thread waits for another with the longest.
    const int64_t share = kPiecesPerThread * threads();
    const int64_t longest = std::max(kShortestPart, (work + share - 1) / share);
    Plan made;
    for_each_run(task, [&](const AttentionPiece& run) {
        const int64_t keys = run.end_key, heads = run.end_head - run.first_head;
        const int64_t parts = (heads * keys + longest - 1) / longest;
        const int64_t part = ((keys + parts - 1) / parts + kKeysAtOnce - 1) / kKeysAtOnce * kKeysAtOnce;
        const auto first = static_cast<int64_t>(made.pieces.size());
        AttentionPiece piece = run;
        for (int64_t key = 0; key < keys; key += part) {
            piece.first_key = key;
            piece.end_key = std::min(keys, key + part);
            made.pieces.push_back(piece);
        }
        made.runs.push_back({first, static_cast<int64_t>(made.pieces.size()) - first});
    });
    return made;
}

// Adds up the pieces of a run and writes its rows.
void finish(const AttentionTask& task, const Plan& made, const Run& run, const std::vector<PartialRows>& partials) {
    const AttentionPiece& piece = made.pieces[run.first];
    const int64_t share = task.heads / task.kv_heads, width = padded(task.size);
    const int64_t rows = rows_of(task, piece), rows_of_head = (piece.end_query - piece.first_query) * share;
    for (int64_t row = 0; row < rows; row++) {
        float largest = -std::numeric_limits<float>::infinity();
        for (int64_t part = 0; part < run.parts; part++) {
            largest = std::max(largest, partials[run.first + part].largest[row]);
        }
        float* total = partials[run.first].mixed + row * width;
        float sum = 0;
        for (int64_t part = 0; part < run.parts; part++) {
            const PartialRows& partial = partials[run.first + part];
            const float factor = run.parts == 1 ? 1.0f : std::exp(partial.largest[row] - largest);
            sum += factor * partial.sums[row];
            if (run.parts > 1) {
                for (int64_t i = 0; i < task.size; i++) {
                    const float more = factor * partial.mixed[row * width + i];
                    total[i] = part == 0 ? more : total[i] + more;
                }
            }
        }
        const int64_t head = piece.first_head + row / rows_of_head, query = piece.first_query + row % rows_of_head / share;
        const int64_t token = task.layout.start(piece.sequence) + query;
        const int64_t place = (token * task.heads + head * share + row % share) * task.size;
        const float inverse = 1 / sum;
        for (int64_t i = 0; i < task.size; i++) {
            numbers::store(task.out, task.type, place + i, total[i] * inverse);
        }
    }
}

}  // namespace

void attention(const AttentionTask& task) {
    const AttentionKernels& kernel = kernels();
    const Plan made = plan(task);
    const int64_t width = padded(task.size);
    static thread_local Scratch<float> kept;
    int64_t size = 0;
    for (const AttentionPiece& piece : made.pieces) {
        size += rows_of(task, piece) * (width + 2);
    }
    float* next = scratch(kept, size);
    std::vector<PartialRows> partials;
    partials.reserve(made.pieces.size());
    for (const AttentionPiece& piece : made.pieces) {
        const int64_t rows = rows_of(task, piece);
        partials.push_back({next, next + rows, next + 2 * rows});
        next += rows * (width + 2);
    }
    parallel_for(static_cast<int64_t>(made.pieces.size()), [&](int64_t index) {
        static thread_local Scratch<float> own;
        kernel.attend(task, made.pieces[index], partials[index], scratch(own, scratch_floats(task.size)));
    });
    const auto runs = static_cast<int64_t>(made.runs.size());
    const int64_t step = std::max<int64_t>(1, runs / (4 * threads()));
    parallel_for((runs + step - 1) / step, [&](int64_t chunk) {
        for (int64_t run = chunk * step; run < std::min(runs, (chunk + 1) * step); run++) {
            finish(task, made, made.runs[run], partials);
        }
    });
}

}  // namespace glasschat::cpu
