// Attention of a step's tokens over the keys and values in the blocks of their sequences, flash style (Dao et al. 2022,
// "FlashAttention"; Milakov and Gimelshein 2018 for the online softmax): no matrix of scores is ever kept.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kv_store.h"
#include "cpu/numbers.h"

namespace glasschat::cpu {

// Where a step's tokens stand: B sequences one after another, each with a table of the blocks that hold its context.
class Layout {
  public:
    // `tables` [B, width] is row after row. Throws std::invalid_argument for what no step may be: no sequence, a sequence
    // without queries or with more queries than context, a table that does not cover the context, a negative block.
    Layout(std::vector<int64_t> query_lens, std::vector<int64_t> context_lens, std::vector<int32_t> tables,
           int64_t width, int64_t block_size);

    int64_t sequences() const { return static_cast<int64_t>(query_lens_.size()); }
    int64_t tokens() const { return starts_.back(); }
    int64_t block_size() const { return block_size_; }
    // The highest block that is read or written.
    int64_t last_block() const { return last_block_; }

    // [sequences, width], row after row.
    const std::vector<int32_t>& tables() const { return tables_; }
    int64_t width() const { return width_; }

    // Of every token in its sequence, [tokens].
    const int32_t* positions() const { return positions_.data(); }

    int64_t start(int64_t sequence) const { return starts_[sequence]; }
    int64_t query_len(int64_t sequence) const { return query_lens_[sequence]; }
    int64_t context_len(int64_t sequence) const { return context_lens_[sequence]; }

    // The place of a token of a sequence in the pool, counted in tokens.
    int64_t slot(int64_t sequence, int64_t position) const {
        return tables_[sequence * width_ + position / block_size_] * block_size_ + position % block_size_;
    }

  private:
    std::vector<int64_t> query_lens_;
    std::vector<int64_t> context_lens_;
    std::vector<int64_t> starts_;
    std::vector<int32_t> positions_;
    std::vector<int32_t> tables_;
    int64_t width_;
    int64_t block_size_;
    int64_t last_block_ = 0;
};

// One layer's attention. Arrays are without gaps: q and out [T, heads, size] of `type`, keys and values [slots, kv_heads,
// size]. Query heads share key heads in runs of heads / kv_heads.
struct AttentionTask {
    const Layout& layout;
    const void* q;
    KvStore keys;
    KvStore values;
    void* out;
    Float type;
    int64_t heads;
    int64_t kv_heads;
    int64_t size;
    float scale;
};

// Products, sums and exponentials are in float32; the result is rounded once. Uses the thread pool.
void attention(const AttentionTask& task);

// A piece of the work: some queries of a sequence with the heads that share some key heads, over a range of its context.
// Its rows are those of the first key head, then of the next.
struct AttentionPiece {
    int64_t sequence;
    int64_t first_head;
    int64_t end_head;
    int64_t first_query;
    int64_t end_query;
    int64_t first_key;
    int64_t end_key;
};

// Keys that are looked at together, and the rows (queries times query heads) that a piece may have, or one key head has.
inline constexpr int64_t kKeysAtOnce = 64;
inline constexpr int64_t kMostRows = 64;

// What a piece leaves behind for each of its rows: the largest score, the sum of the exponentials above it, and the sum
// of the values weighted by those. Pieces of one context are added up from these.
struct PartialRows {
    float* largest;
    float* sums;
    float* mixed;  // [rows, padded size]
};

// The kernels of one instruction set.
struct AttentionKernels {
    // `scratch` has room for scratch_floats(size).
    void (*attend)(const AttentionTask& task, const AttentionPiece& piece, const PartialRows& partial, float* scratch);
};

// Head sizes are filled up with zeros to whole vectors.
inline int64_t padded(int64_t size) {
    return (size + 15) / 16 * 16;
}

inline int64_t scratch_floats(int64_t size) {
    // Queries, transposed keys, scores, values.
    return kMostRows * padded(size) + padded(size) * kKeysAtOnce + kMostRows * kKeysAtOnce + kKeysAtOnce * padded(size);
}

extern const AttentionKernels kPortableAttention;
extern const AttentionKernels kAvx2Attention;
extern const AttentionKernels kAvx512Attention;
extern const AttentionKernels kNeonAttention;

}  // namespace glasschat::cpu
