// Attention over block tables, and the cache that it reads, against softmax in float64.
#include "cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "grid.h"
#include "numbers.h"
#include "report.h"

namespace grid {

namespace {

using namespace glasschat::cpu;

// A step's sequences: queries and context of each.
struct Step {
    const char* name;
    std::vector<int64_t> queries, contexts;
};

const std::vector<Step>& steps() {
    static const std::vector<Step> all{
        {"a first token", {1}, {1}},
        {"a decode", {1}, {200}},
        {"a decode over whole runs of keys", {1}, {64}},
        {"decodes", {1, 1, 1, 1}, {15, 16, 17, 65}},
        {"a prompt", {37}, {37}},
        {"a long prompt", {130}, {130}},
        {"chunks on a prefix", {5, 20}, {70, 130}},
        {"a prompt, a chunk and a decode", {20, 11, 1}, {20, 41, 77}},
        {"a context for several threads", {1}, {1200}},
    };
    return all;
}

struct Heads {
    int64_t heads, kv_heads, size;
};

constexpr Heads kHeads[] = {{4, 4, 64}, {8, 2, 64}, {14, 2, 32}, {3, 1, 128}, {2, 2, 80}, {4, 2, 36}, {2, 1, 7}};

// Keys or values as they are kept: floats, or integers in groups.
class Kept {
   public:
    Kept(Float type, int bits, int64_t slots, int64_t width)
        : type_(type), bits_(bits), width_(width), elements_(bits ? slots * width * bits / 8 : slots * width * bytes(type)),
          scales_(Float::f16, bits ? slots * width / kKvGroup : 0), biases_(Float::f16, scales_.size()) {
        // What nobody has written is no number: who reads it is found out.
        for (int64_t i = 0; i < elements_.size(); i++) {
            elements_[i] = 0xff;
        }
        for (int64_t i = 0; i < scales_.size(); i++) {
            scales_.set(i, NAN);
            biases_.set(i, NAN);
        }
    }

    KvRoom room() { return {elements_.data(), type_, bits_, scales(), biases(), width_}; }
    KvStore store() const {
        const auto* scales = static_cast<const uint16_t*>(scales_.data());
        return {elements_.data(), type_, bits_, scales, static_cast<const uint16_t*>(biases_.data())};
    }

    // A number of a token, and half of the distance to the next that can be kept.
    double number(int64_t slot, int64_t i) const {
        const int64_t place = slot * width_ + i;
        if (!bits_) {
            return numbers::load(elements_.data(), type_, place);
        }
        const int64_t bit = place * bits_;
        const int integer = elements_[bit / 8] >> (bit % 8) & ((1 << bits_) - 1);
        return integer * scales_[place / kKvGroup] + biases_[place / kKvGroup];
    }
    double coarseness(int64_t slot, int64_t i, double value) const {
        if (!bits_) {
            return rounding(type_) * std::abs(value) + smallest(type_);
        }
        // Scale and bias are rounded too: by the largest integer's worth of the one, and by as much as the other is.
        const int64_t group = (slot * width_ + i) / kKvGroup;
        const double scale = scales_[group], highest = (1 << bits_) - 1;
        return scale / 2 + rounding(Float::f16) * (highest * scale + std::abs(biases_[group])) * 2 + 1e-6;
    }

   private:
    uint16_t* scales() { return static_cast<uint16_t*>(scales_.data()); }
    uint16_t* biases() { return static_cast<uint16_t*>(biases_.data()); }

    Float type_;
    int bits_;
    int64_t width_;
    Guarded<uint8_t> elements_;
    Numbers scales_, biases_;
};

// Blocks in disorder; the pool has some more than are needed.
Layout layout(const Step& step, int64_t block_size, Random& random, int64_t& blocks) {
    const auto needed = [&](int64_t context) { return (context + block_size - 1) / block_size; };
    int64_t width = 0, count = 0;
    for (const int64_t context : step.contexts) {
        width = std::max(width, needed(context));
        count += needed(context);
    }
    blocks = count + 3;
    std::vector<int32_t> order(blocks);
    std::iota(order.begin(), order.end(), 0);
    for (int64_t i = blocks - 1; i > 0; i--) {
        std::swap(order[i], order[random.below(i + 1)]);
    }
    std::vector<int32_t> tables(step.contexts.size() * width, -1);
    for (std::size_t sequence = 0; sequence < step.contexts.size(); sequence++) {
        for (int64_t block = 0; block < needed(step.contexts[sequence]); block++) {
            tables[sequence * width + block] = order.back();
            order.pop_back();
        }
    }
    return Layout(step.queries, step.contexts, tables, width, block_size);
}

// Fills the contexts, and compares what is kept with what was given.
void fill(Report& report, const std::string& name, const Layout& layout, Kept& kept, Float given, int64_t width,
          Random& random) {
    for (int64_t sequence = 0; sequence < layout.sequences(); sequence++) {
        const int64_t context = layout.context_len(sequence);
        // As if the whole context were this step's.
        const int32_t* table = layout.tables().data() + sequence * layout.width();
        const Layout whole({context}, {context}, {table, table + layout.width()}, layout.width(), layout.block_size());
        const Numbers rows = random.numbers(given, context * width);
        write_kv(whole, rows.data(), width, given, kept.room());
        const auto slot = [&](int64_t i) { return layout.slot(sequence, i / width); };
        report.compare(name + ", written", rows.size(), [&](int64_t i) { return kept.number(slot(i), i % width); },
                       [&](int64_t i) -> Truth { return {rows[i], kept.coarseness(slot(i), i % width, rows[i])}; });
    }
}

// One head of one token: softmax of the scores of the keys that it sees, times the values.
std::vector<Truth> attended(const AttentionTask& task, const Numbers& q, const Kept& keys, const Kept& values,
                            int64_t sequence, int64_t query, int64_t head) {
    const Layout& layout = task.layout;
    const int64_t token = layout.start(sequence) + query, size = task.size;
    const int64_t kv_head = head / (task.heads / task.kv_heads);
    const int64_t seen = layout.context_len(sequence) - layout.query_len(sequence) + query + 1;
    std::vector<double> scores(seen);
    double most = 0;  // of what a score is added up from
    for (int64_t key = 0; key < seen; key++) {
        double size_of_score = 0;
        for (int64_t i = 0; i < size; i++) {
            const double product = q[(token * task.heads + head) * size + i] * task.scale *
                                   keys.number(layout.slot(sequence, key), kv_head * size + i);
            scores[key] += product;
            size_of_score += std::abs(product);
        }
        most = std::max(most, size_of_score);
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double& score : scores) {
        score = std::exp(score - largest);
        total += score;
    }
    // An error of a score is as large a part of its weight; the weights, and the values by them, are then added up.
    const double error = 0x1p-22 * (2 + most * std::sqrt(static_cast<double>(size)) + std::sqrt(static_cast<double>(seen)));
    std::vector<Truth> truths(size);
    for (int64_t i = 0; i < size; i++) {
        double sum = 0, size_of_sum = 0;
        for (int64_t key = 0; key < seen; key++) {
            const double part = scores[key] / total * values.number(layout.slot(sequence, key), kv_head * size + i);
            sum += part;
            size_of_sum += std::abs(part);
        }
        truths[i] = {sum, rounding(task.type) * std::abs(sum) + smallest(task.type) + error * size_of_sum};
    }
    return truths;
}

void attend(Report& report, const Step& step, const Heads& heads, Float type, Float kept_type, int bits,
            int64_t block_size, Random& random) {
    int64_t blocks;
    const Layout made = layout(step, block_size, random, blocks);
    const int64_t size = heads.size, width = heads.kv_heads * size;
    const std::string name = std::string(step.name) + ", " + std::to_string(heads.heads) + " heads on " +
                             std::to_string(heads.kv_heads) + " of " + std::to_string(size) + ", " + grid::name(type) +
                             " on " + (bits ? std::to_string(bits) + " bit" : grid::name(kept_type)) + " in blocks of " +
                             std::to_string(block_size);
    Kept keys(kept_type, bits, blocks * block_size, width), values(kept_type, bits, blocks * block_size, width);
    fill(report, name + ": keys", made, keys, type, width, random);
    fill(report, name + ": values", made, values, type, width, random);
    const Numbers q = random.numbers(type, made.tokens() * heads.heads * size);
    Numbers out(type, q.size());
    const AttentionTask task{made, q.data(), keys.store(), values.store(), out.data(), type, heads.heads, heads.kv_heads,
                             size, static_cast<float>(1 / std::sqrt(static_cast<double>(size)))};
    attention(task);
    std::vector<Truth> truths;
    for (int64_t sequence = 0; sequence < made.sequences(); sequence++) {
        for (int64_t query = 0; query < made.query_len(sequence); query++) {
            for (int64_t head = 0; head < heads.heads; head++) {
                const std::vector<Truth> row = attended(task, q, keys, values, sequence, query, head);
                truths.insert(truths.end(), row.begin(), row.end());
            }
        }
    }
    report.compare(name, out.size(), [&](int64_t i) { return out[i]; }, [&](int64_t i) { return truths[i]; });
}

}  // namespace

void attention_grid() {
    Report report("attention");
    Random random(1);
    constexpr int64_t kBlockSizes[] = {16, 1, 5};
    int64_t turn = 0;
    for (const Step& step : steps()) {
        for (const Heads& heads : kHeads) {
            for (const int bits : {0, 8, 4}) {
                if (bits && heads.size % kKvGroup) {
                    continue;
                }
                const Float type = kFloats[turn % 3], kept = kFloats[turn / 2 % 3];
                attend(report, step, heads, type, bits ? Float::f32 : kept, bits, kBlockSizes[turn / 3 % 3], random);
                turn++;
            }
        }
    }
}

}  // namespace grid
