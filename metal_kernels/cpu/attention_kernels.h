// The attention kernels, in terms of Lanes. A file that defines those for an instruction set includes this one and gets
// kernels of its own: everything here has internal linkage, so that no file runs code compiled for another.
#pragma once

#include <cstdint>

#include "cpu/attention.h"
#include "cpu/lane_memory.h"
#include "cpu/unroll.h"

namespace glasschat::cpu {
namespace {

// out[r][...] (+)= sum over k < count of a[r][k] * panel[k][...], for `Rows` rows and `Tiles` vectors.
template <int Rows, int Tiles>
GLASSCHAT_INLINE inline void multiply_block(const float* a, int64_t a_stride, const float* panel, int64_t panel_stride,
                                            int64_t count, float* out, int64_t out_stride, bool add) {
    Lanes sums[Rows][Tiles];
    unroll<Rows * Tiles>([&](auto i) GLASSCHAT_INLINE {
        float* place = out + i / Tiles * out_stride + i % Tiles * 16;
        sums[i / Tiles][i % Tiles] = add ? Lanes::load(place) : Lanes::zero();
    });
    for (int64_t k = 0; k < count; k++) {
        Lanes values[Tiles];
        unroll<Tiles>([&](auto t) GLASSCHAT_INLINE { values[t] = Lanes::load(panel + k * panel_stride + t * 16); });
        unroll<Rows>([&](auto r) GLASSCHAT_INLINE {
            const Lanes factor = Lanes::all(a[r * a_stride + k]);
            unroll<Tiles>([&](auto t) GLASSCHAT_INLINE { sums[r][t] = sums[r][t].plus_product(factor, values[t]); });
        });
    }
    unroll<Rows * Tiles>([&](auto i) GLASSCHAT_INLINE {
        sums[i / Tiles][i % Tiles].store(out + i / Tiles * out_stride + i % Tiles * 16);
    });
}

// The same for any number of rows, and of vectors that are `width` numbers wide together.
void multiply(const float* a, int64_t a_stride, int64_t rows, const float* panel, int64_t width, int64_t count,
              float* out, bool add) {
    in_runs<kAttentionTiles>(0, width / 16, [&](auto tiles, int64_t tile) GLASSCHAT_INLINE {
        in_exact_runs<kAttentionRows>(0, rows, [&](auto run, int64_t row) GLASSCHAT_INLINE {
            multiply_block<run, tiles>(a + row * a_stride, a_stride, panel + tile * 16, width, count,
                                       out + row * width + tile * 16, width, add);
        });
    });
}

struct Scratch {
    float* queries;  // [rows, padded size], scaled
    float* keys;     // [padded size, kKeysAtOnce]: turned over, so that a vector is one dimension of 16 keys
    float* scores;   // [rows, kKeysAtOnce]
    float* values;   // [kKeysAtOnce, padded size]
};

void load_queries(const AttentionTask& task, const AttentionPiece& piece, float* queries) {
    const int64_t share = task.heads / task.kv_heads, width = padded(task.size);
    const Lanes scale = Lanes::all(task.scale);
    for (int64_t query = piece.first_query; query < piece.end_query; query++) {
        const int64_t token = task.layout.start(piece.sequence) + query;
        for (int64_t head = 0; head < share; head++, queries += width) {
            const int64_t from = (token * task.heads + piece.kv_head * share + head) * task.size;
            for (int64_t i = 0; i < task.size; i += 16) {
                (load_some(task.q, task.type, from + i, task.size - i) * scale).store(queries + i);
            }
        }
    }
}

// `count` elements of a store from `index` on as one vector; zeros fill it up. Both are multiples of 16 for integers.
GLASSCHAT_INLINE inline Lanes load_kept(const KvStore& store, int64_t index, int64_t count) {
    if (store.bits == 0) {
        return load_some(store.elements, store.type, index, count);
    }
    const auto* elements = static_cast<const uint8_t*>(store.elements);
    const int64_t group = index / kKvGroup;
    const Lanes scale = Lanes::all(numbers::from_f16(store.scales[group]));
    const Lanes bias = Lanes::all(numbers::from_f16(store.biases[group]));
    if (store.bits == 8) {
        return bias.plus_product(Lanes::load_bytes(elements + index), scale);
    }
    uint8_t digits[16];
    for (int i = 0; i < 8; i++) {
        const uint8_t two = elements[index / 2 + i];
        digits[2 * i] = two & 15;
        digits[2 * i + 1] = two >> 4;
    }
    return bias.plus_product(Lanes::load_bytes(digits), scale);
}

// Keys and values of `count` tokens from `first` on. Vectors past the last token are zero.
void load_context(const AttentionTask& task, const AttentionPiece& piece, int64_t first, int64_t count,
                  const Scratch& scratch) {
    const int64_t width = padded(task.size);
    int64_t places[kKeysAtOnce];
    for (int64_t i = 0; i < count; i++) {
        places[i] = (task.layout.slot(piece.sequence, first + i) * task.kv_heads + piece.kv_head) * task.size;
    }
    for (int64_t key = 0; key < count; key += 16) {
        const int64_t rest = count - key;
        for (int64_t i = 0; i < task.size; i += 16) {
            Lanes rows[16];
            for (int64_t k = 0; k < 16; k++) {
                rows[k] = k < rest ? load_kept(task.keys, places[key + k] + i, task.size - i)
                                   : Lanes::zero();
            }
            Lanes::transpose(rows);
            for (int64_t k = 0; k < 16; k++) {
                rows[k].store(scratch.keys + (i + k) * kKeysAtOnce + key);
            }
        }
        for (int64_t k = 0; k < 16 && k < rest; k++) {
            for (int64_t i = 0; i < task.size; i += 16) {
                load_kept(task.values, places[key + k] + i, task.size - i).store(scratch.values + (key + k) * width + i);
            }
        }
    }
}

// Turns a row's scores into weights; `seen` of them count. Returns how much less all earlier weights now are.
GLASSCHAT_INLINE inline float weigh(float* scores, int64_t seen, float& largest, float& sum) {
    const float none = -__builtin_inff();
    for (int64_t k = seen; k < kKeysAtOnce; k++) {
        scores[k] = none;
    }
    Lanes most = Lanes::load(scores);
    for (int64_t k = 16; k < kKeysAtOnce; k += 16) {
        most = most.max(Lanes::load(scores + k));
    }
    const float now = most.largest();
    const float next = now > largest ? now : largest;
    if (next == none) {
        // Nothing seen so far, here or before.
        for (int64_t k = 0; k < kKeysAtOnce; k++) {
            scores[k] = 0;
        }
        return 1;
    }
    Lanes total = Lanes::zero();
    const Lanes offset = Lanes::all(next);
    for (int64_t k = 0; k < kKeysAtOnce; k += 16) {
        const Lanes weight = (Lanes::load(scores + k) - offset).exp();
        weight.store(scores + k);
        total = total + weight;
    }
    const float factor = largest == none ? 0.0f : (next == largest ? 1.0f : __builtin_expf(largest - next));
    largest = next;
    sum = sum * factor + total.sum();
    return factor;
}

void attend(const AttentionTask& task, const AttentionPiece& piece, const PartialRows& partial, float* room) {
    const int64_t share = task.heads / task.kv_heads, width = padded(task.size);
    const int64_t rows = (piece.end_query - piece.first_query) * share;
    const Scratch scratch{room, room + kMostRows * width, room + kMostRows * width + width * kKeysAtOnce,
                          room + kMostRows * width + width * kKeysAtOnce + kMostRows * kKeysAtOnce};
    load_queries(task, piece, scratch.queries);
    for (int64_t row = 0; row < rows; row++) {
        partial.largest[row] = -__builtin_inff();
        partial.sums[row] = 0;
    }
    for (int64_t i = 0; i < rows * width; i++) {
        partial.mixed[i] = 0;
    }
    // Query i of a sequence stands at this position more than i.
    const int64_t before = task.layout.context_len(piece.sequence) - task.layout.query_len(piece.sequence);
    for (int64_t first = piece.first_key; first < piece.end_key; first += kKeysAtOnce) {
        const int64_t count = piece.end_key - first < kKeysAtOnce ? piece.end_key - first : kKeysAtOnce;
        load_context(task, piece, first, count, scratch);
        multiply(scratch.queries, width, rows, scratch.keys, kKeysAtOnce, task.size, scratch.scores, false);
        for (int64_t row = 0; row < rows; row++) {
            const int64_t visible = before + piece.first_query + row / share + 1 - first;
            const int64_t seen = visible < 0 ? 0 : visible < count ? visible : count;
            const float factor = weigh(scratch.scores + row * kKeysAtOnce, seen, partial.largest[row], partial.sums[row]);
            if (factor != 1.0f) {
                const Lanes less = Lanes::all(factor);
                float* mixed = partial.mixed + row * width;
                for (int64_t i = 0; i < width; i += 16) {
                    (Lanes::load(mixed + i) * less).store(mixed + i);
                }
            }
        }
        multiply(scratch.scores, kKeysAtOnce, rows, scratch.values, width, count, partial.mixed, true);
    }
}

constexpr AttentionKernels kAttention = {attend};

}  // namespace
}  // namespace glasschat::cpu
