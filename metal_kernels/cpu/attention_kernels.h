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
    for (int64_t kv_head = piece.first_head; kv_head < piece.end_head; kv_head++) {
        for (int64_t query = piece.first_query; query < piece.end_query; query++) {
            const int64_t token = task.layout.start(piece.sequence) + query;
            for (int64_t head = 0; head < share; head++, queries += width) {
                const int64_t from = (token * task.heads + kv_head * share + head) * task.size;
                for (int64_t i = 0; i < task.size; i += 16) {
                    (load_some(task.q, task.type, from + i, task.size - i) * scale).store(queries + i);
                }
            }
        }
    }
}

constexpr int kOuterCaches = 1;

// What keys or values are kept as, decided once: elements from `index` on as one vector. Of floats `count` elements, with
// zeros to fill it up; integers come in whole groups.
template <Float Type>
struct KeptFloats {
    const void* elements;

    explicit KeptFloats(const KvStore& store) : elements(store.elements) {}

    // The same from a later element on.
    KeptFloats from(int64_t index) const {
        KeptFloats later = *this;
        later.elements = static_cast<const uint8_t*>(elements) + index * bytes(Type);
        return later;
    }

    GLASSCHAT_INLINE Lanes load(int64_t index) const { return load_numbers(elements, Type, index); }
    GLASSCHAT_INLINE Lanes load(int64_t index, int64_t count) const { return load_some(elements, Type, index, count); }
    // Asks for `count` elements ahead of their use: rows of different tokens are too far apart for the processor to guess.
    // Into the outer caches, because the innermost can wait for but a few lines at a time.
    GLASSCHAT_INLINE void fetch(int64_t index, int64_t count) const {
        const auto* from = static_cast<const uint8_t*>(elements) + index * bytes(Type);
        for (int64_t line = 0; line < count * bytes(Type); line += kLine) {
            __builtin_prefetch(from + line, 0, kOuterCaches);
        }
    }

    static constexpr int64_t kLine = 64;
};

template <int Bits>
struct KeptIntegers {
    const uint8_t* elements;
    const uint16_t *scales, *biases;

    explicit KeptIntegers(const KvStore& store)
        : elements(static_cast<const uint8_t*>(store.elements)), scales(store.scales), biases(store.biases) {}

    KeptIntegers from(int64_t index) const {
        KeptIntegers later = *this;
        later.elements += index * Bits / 8;
        later.scales += index / kKvGroup;
        later.biases += index / kKvGroup;
        return later;
    }

    GLASSCHAT_INLINE Lanes load(int64_t index) const {
        const int64_t group = index / kKvGroup;
        const Lanes scale = Lanes::all(numbers::from_f16(scales[group]));
        const Lanes bias = Lanes::all(numbers::from_f16(biases[group]));
        if constexpr (Bits == 8) {
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
    GLASSCHAT_INLINE Lanes load(int64_t index, int64_t) const { return load(index); }
    GLASSCHAT_INLINE void fetch(int64_t index, int64_t) const {
        __builtin_prefetch(elements + index * Bits / 8, 0, kOuterCaches);
    }
};

// Calls body(keys, values); both are kept alike.
template <class Body>
void with_kept(const KvStore& keys, const KvStore& values, const Body& body) {
    if (keys.bits == 8) {
        body(KeptIntegers<8>(keys), KeptIntegers<8>(values));
    } else if (keys.bits == 4) {
        body(KeptIntegers<4>(keys), KeptIntegers<4>(values));
    } else if (keys.type == Float::f32) {
        body(KeptFloats<Float::f32>(keys), KeptFloats<Float::f32>(values));
    } else if (keys.type == Float::bf16) {
        body(KeptFloats<Float::bf16>(keys), KeptFloats<Float::bf16>(values));
    } else {
        body(KeptFloats<Float::f16>(keys), KeptFloats<Float::f16>(values));
    }
}

// Of the keys that are looked at now, and then of those that are looked at next.
constexpr int64_t kPlaces = 2 * kKeysAtOnce;

// Where `count` tokens from `first` on have the elements of the piece's first head; the last of them fills up all
// kPlaces.
void find_places(const AttentionTask& task, const AttentionPiece& piece, int64_t first, int64_t count, int64_t* places) {
    const int64_t block = task.layout.block_size(), step = task.kv_heads * task.size;
    for (int64_t i = 0; i < count;) {
        const int64_t position = first + i, left = block - position % block;
        int64_t place = (task.layout.slot(piece.sequence, position) * task.kv_heads + piece.first_head) * task.size;
        for (const int64_t end = i + left < count ? i + left : count; i < end; i++, place += step) {
            places[i] = place;
        }
    }
    for (int64_t i = count; i < kPlaces; i++) {
        places[i] = places[count - 1];
    }
}

// Keys, turned over, and values of `count` tokens, for many rows to share.
template <class Kept>
void load_context(const Kept& keys, const Kept& values, const int64_t* places, int64_t count, int64_t size,
                  const Scratch& scratch) {
    const int64_t width = padded(size);
    for (int64_t key = 0; key < count; key += 16) {
        for (int64_t i = 0; i < size; i += 16) {
            Lanes block[16];
            unroll<16>([&](auto k) GLASSCHAT_INLINE { block[k] = keys.load(places[key + k] + i, size - i); });
            Lanes::transpose(block);
            unroll<16>([&](auto k) GLASSCHAT_INLINE { block[k].store(scratch.keys + (i + k) * kKeysAtOnce + key); });
        }
        for (int64_t k = key; k < key + 16 && k < count; k++) {
            for (int64_t i = 0; i < size; i += 16) {
                values.load(places[k] + i, size - i).store(scratch.values + k * width + i);
            }
        }
    }
}

// Rows that are few. A sanitizer's checks make every variant of them long to compile, and one stands for all.
#ifdef GLASSCHAT_SANITIZED
constexpr int kFewRows = 1;
#else
constexpr int kFewRows = kAttentionRows;
#endif

// Few rows read keys and values where they are kept: writing them down turned over would cost more than it saves. Head
// sizes are whole vectors. Scores of `count` keys for `Rows` rows.
template <int Rows, class Kept>
void score_rows(const Kept& keys, const int64_t* places, int64_t count, int64_t size, const float* queries,
                float* scores) {
    for (int64_t key = 0; key < count; key += 16) {
        Lanes sums[Rows];
        unroll<Rows>([&](auto row) GLASSCHAT_INLINE { sums[row] = Lanes::zero(); });
        for (int64_t i = 0; i < size; i += 16) {
            Lanes block[16];
            unroll<16>([&](auto k) GLASSCHAT_INLINE { block[k] = keys.load(places[key + k] + i); });
            Lanes::transpose(block);
            unroll<16>([&](auto k) GLASSCHAT_INLINE {
                unroll<Rows>([&](auto row) GLASSCHAT_INLINE {
                    sums[row] = sums[row].plus_product(block[k], Lanes::all(queries[row * size + i + k]));
                });
            });
        }
        unroll<Rows>([&](auto row) GLASSCHAT_INLINE { sums[row].store(scores + row * kKeysAtOnce + key); });
    }
}

// mixed [Rows, size] += weights [Rows, count] times the values. Asks for the next keys and values one by one meanwhile:
// this has few loads of its own, and many lines asked for at once would make each other wait.
template <int Rows, class Kept>
void mix_rows(const Kept& keys, const Kept& values, const int64_t* places, int64_t count, int64_t size,
              const float* weights, float* mixed) {
    in_runs<kAttentionTiles>(0, size / 16, [&](auto tiles, int64_t tile) GLASSCHAT_INLINE {
        const bool first = tile == 0, last = (tile + tiles) * 16 == size;
        float* out = mixed + tile * 16;
        Lanes sums[Rows][tiles];
        unroll<Rows * tiles>([&](auto i) GLASSCHAT_INLINE {
            sums[i / tiles][i % tiles] = Lanes::load(out + i / tiles * size + i % tiles * 16);
        });
        for (int64_t k = 0; k < count; k++) {
            if (first) {
                keys.fetch(places[kKeysAtOnce + k], size);
            }
            if (last) {
                values.fetch(places[kKeysAtOnce + k], size);
            }
            Lanes row[tiles];
            unroll<tiles>([&](auto t) GLASSCHAT_INLINE { row[t] = values.load(places[k] + (tile + t) * 16); });
            unroll<Rows>([&](auto r) GLASSCHAT_INLINE {
                const Lanes weight = Lanes::all(weights[r * kKeysAtOnce + k]);
                unroll<tiles>([&](auto t) GLASSCHAT_INLINE { sums[r][t] = sums[r][t].plus_product(row[t], weight); });
            });
        }
        unroll<Rows * tiles>([&](auto i) GLASSCHAT_INLINE {
            sums[i / tiles][i % tiles].store(out + i / tiles * size + i % tiles * 16);
        });
    });
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

// The rows of one key head against `count` keys from `first` on.
template <class Kept>
void attend_tile(const Kept& keys, const Kept& values, const AttentionTask& task, const AttentionPiece& piece,
                 const int64_t* places, int64_t first, int64_t count, const PartialRows& partial,
                 const Scratch& scratch) {
    const int64_t share = task.heads / task.kv_heads, size = task.size, width = padded(size);
    const int64_t rows = (piece.end_query - piece.first_query) * share;
    const bool few = rows <= kFewRows && size == width;
    // Query i of a sequence stands at this position more than i.
    const int64_t before = task.layout.context_len(piece.sequence) - task.layout.query_len(piece.sequence);
    if (few) {
        in_exact_runs<kFewRows>(0, rows, [&](auto run, int64_t) {
            score_rows<run>(keys, places, count, size, scratch.queries, scratch.scores);
        });
    } else {
        load_context(keys, values, places, count, size, scratch);
        multiply(scratch.queries, width, rows, scratch.keys, kKeysAtOnce, size, scratch.scores, false);
    }
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
    if (few) {
        in_exact_runs<kFewRows>(0, rows, [&](auto run, int64_t) {
            mix_rows<run>(keys, values, places, count, size, scratch.scores, partial.mixed);
        });
    } else {
        multiply(scratch.scores, kKeysAtOnce, rows, scratch.values, width, count, partial.mixed, true);
    }
}

template <class Kept>
void attend_to(const Kept& keys, const Kept& values, const AttentionTask& task, const AttentionPiece& piece,
               const PartialRows& partial, const Scratch& scratch) {
    const int64_t width = padded(task.size);
    const int64_t rows = (piece.end_query - piece.first_query) * (task.heads / task.kv_heads);
    for (int64_t first = piece.first_key; first < piece.end_key; first += kKeysAtOnce) {
        const int64_t count = piece.end_key - first < kKeysAtOnce ? piece.end_key - first : kKeysAtOnce;
        int64_t places[kPlaces];
        find_places(task, piece, first, piece.end_key - first < kPlaces ? piece.end_key - first : kPlaces, places);
        for (int64_t head = 0; head < piece.end_head - piece.first_head; head++) {
            const int64_t row = head * rows, element = head * task.size;
            Scratch own = scratch;
            own.queries += row * width;
            attend_tile(keys.from(element), values.from(element), task, piece, places, first, count,
                        {partial.largest + row, partial.sums + row, partial.mixed + row * width}, own);
        }
    }
}

void attend(const AttentionTask& task, const AttentionPiece& piece, const PartialRows& partial, float* room) {
    const int64_t share = task.heads / task.kv_heads, width = padded(task.size);
    const int64_t rows = (piece.end_head - piece.first_head) * (piece.end_query - piece.first_query) * share;
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
    with_kept(task.keys, task.values, [&](const auto& keys, const auto& values) {
        attend_to(keys, values, task, piece, partial, scratch);
    });
}

constexpr AttentionKernels kAttention = {attend};

}  // namespace
}  // namespace glasschat::cpu
