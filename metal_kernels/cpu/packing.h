// Weight matrices in the order in memory that the matmul kernels read: tiles of 16 output rows.
//
// A tile holds its 16 rows side by side, so that a vector of 16 numbers is one column of 16 rows and no sum ever runs
// across the lanes of a vector. The columns follow each other in cells of 64 bytes (32 for 16-bit floats), in which row
// r is lane r:
//
//   4 bit   8 columns; byte i of lane r is q[r][c + i] | q[r][c + 4 + i] << 4   (i = 0..3)
//   8 bit   4 columns; byte i of lane r is q[r][c + i]
//   floats  1 column
//
// Scales and biases of a group of columns stand in the same order: 16 numbers, one for each row. Rows that fill up the
// last tile are zero.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/numbers.h"

namespace glasschat::cpu {

inline constexpr int kTileRows = 16;

enum class Format { q4, q8, f32, bf16, f16 };

// A matrix [rows, columns] as it comes from a checkpoint: MLX's affine quantization (words of 32 bits, lowest first,
// with scales and biases [rows, columns / group_size]), or plain floats.
struct PlainMatrix {
    Format format;
    int64_t rows;
    int64_t columns;
    const void* elements;
    // Of quantized formats alone:
    int group_size = 0;
    Float scale_type = Float::f32;
    const void* scales = nullptr;
    const void* biases = nullptr;
};

class PackedMatrix {
   public:
    // Throws std::invalid_argument for a shape that the layout can't hold. `bias` [rows] may be null.
    PackedMatrix(const PlainMatrix& plain, const void* bias, Float bias_type);

    Format format() const { return format_; }
    int64_t rows() const { return rows_; }
    int64_t columns() const { return columns_; }
    int64_t tiles() const { return (rows_ + kTileRows - 1) / kTileRows; }
    int group_size() const { return group_size_; }
    int64_t groups() const { return group_size_ ? columns_ / group_size_ : 0; }
    Float scale_type() const { return scale_type_; }
    bool quantized() const { return group_size_ > 0; }
    int64_t bytes() const;

    const uint8_t* tile(int64_t index) const { return elements_.get() + index * tile_bytes_; }
    const uint8_t* tile_scales(int64_t index) const { return scales_.get() + index * scale_bytes_; }
    const uint8_t* tile_biases(int64_t index) const { return biases_.get() + index * scale_bytes_; }
    // Of the layer, in float32, filled up with zeros to whole tiles; null if it has none.
    const float* bias() const { return bias_.empty() ? nullptr : bias_.data(); }

    // Back to the checkpoint's order: rows `ids` (all of them in range) into the given places. The layer's own bias is
    // not part of it.
    void unpack_rows(const int64_t* ids, int64_t count, void* elements, void* scales, void* biases) const;

   private:
    Format format_;
    int64_t rows_;
    int64_t columns_;
    int group_size_;
    Float scale_type_;
    int64_t tile_bytes_;
    int64_t scale_bytes_;
    Buffer elements_;
    Buffer scales_;
    Buffer biases_;
    std::vector<float> bias_;
};

// Bits of an element.
int bits(Format format);

using Matrix = std::shared_ptr<const PackedMatrix>;

}  // namespace glasschat::cpu
