#include "cpu/packing.h"

#include <cstring>
#include <stdexcept>
#include <string>

namespace glasschat::cpu {

namespace {

// Columns that share a cell; a matrix has a whole number of cells.
int cell_columns(Format format) {
    return format == Format::q4 ? 8 : format == Format::q8 ? 4 : 1;
}

void check(const PlainMatrix& plain) {
    if (plain.rows < 1 || plain.columns < 1) {
        throw std::invalid_argument("a packed matrix needs at least one row and one column");
    }
    const bool quantized = plain.format == Format::q4 || plain.format == Format::q8;
    if (quantized && (plain.group_size < 8 || plain.group_size % 8 || plain.columns % plain.group_size)) {
        throw std::invalid_argument(
            "groups of " + std::to_string(plain.group_size) + " columns do not divide " +
            std::to_string(plain.columns) + " columns, or are not a multiple of 8");
    }
}

// Puts the cell of one row, beginning at `column`, into the row's lane.
void pack_cell(const PlainMatrix& plain, int64_t row, int64_t column, uint8_t* lane) {
    const int64_t start = row * plain.columns + column;
    switch (plain.format) {
        case Format::q4: {
            const auto* source = static_cast<const uint8_t*>(plain.elements) + start / 2;
            // The source holds columns 0 1, 2 3, 4 5, 6 7; a lane holds 0 4, 1 5, 2 6, 3 7.
            lane[0] = (source[0] & 15) | ((source[2] & 15) << 4);
            lane[1] = (source[0] >> 4) | (source[2] & 0xf0);
            lane[2] = (source[1] & 15) | ((source[3] & 15) << 4);
            lane[3] = (source[1] >> 4) | (source[3] & 0xf0);
            break;
        }
        case Format::q8:
            std::memcpy(lane, static_cast<const uint8_t*>(plain.elements) + start, 4);
            break;
        default:
            std::memcpy(lane, static_cast<const uint8_t*>(plain.elements) + start * (bits(plain.format) / 8),
                        bits(plain.format) / 8);
    }
}

void unpack_cell(Format format, const uint8_t* lane, uint8_t* target) {
    switch (format) {
        case Format::q4:
            target[0] = (lane[0] & 15) | ((lane[1] & 15) << 4);
            target[1] = (lane[2] & 15) | ((lane[3] & 15) << 4);
            target[2] = (lane[0] >> 4) | (lane[1] & 0xf0);
            target[3] = (lane[2] >> 4) | (lane[3] & 0xf0);
            break;
        default:
            std::memcpy(target, lane, format == Format::q8 ? 4 : bits(format) / 8);
    }
}

}  // namespace

int bits(Format format) {
    switch (format) {
        case Format::q4:
            return 4;
        case Format::q8:
            return 8;
        case Format::f32:
            return 32;
        default:
            return 16;
    }
}

PackedMatrix::PackedMatrix(const PlainMatrix& plain, const void* bias, Float bias_type)
    : format_(plain.format),
      rows_(plain.rows),
      columns_(plain.columns),
      group_size_(plain.format == Format::q4 || plain.format == Format::q8 ? plain.group_size : 0),
      scale_type_(plain.scale_type) {
    check(plain);
    const int step = cell_columns(format_);
    const int lane_bytes = step * bits(format_) / 8;
    const int64_t cells = columns_ / step;
    tile_bytes_ = cells * lane_bytes * kTileRows;
    scale_bytes_ = groups() * kTileRows * cpu::bytes(scale_type_);
    elements_ = allocate(tiles() * tile_bytes_);
    for (int64_t row = 0; row < rows_; row++) {
        uint8_t* lane = elements_.get() + row / kTileRows * tile_bytes_ + row % kTileRows * lane_bytes;
        for (int64_t cell = 0; cell < cells; cell++) {
            pack_cell(plain, row, cell * step, lane + cell * lane_bytes * kTileRows);
        }
    }
    if (quantized()) {
        scales_ = allocate(tiles() * scale_bytes_);
        biases_ = allocate(tiles() * scale_bytes_);
        const int size = cpu::bytes(scale_type_);
        for (int64_t row = 0; row < rows_; row++) {
            for (int64_t group = 0; group < groups(); group++) {
                const int64_t from = (row * groups() + group) * size;
                const int64_t to = row / kTileRows * scale_bytes_ + (group * kTileRows + row % kTileRows) * size;
                std::memcpy(scales_.get() + to, static_cast<const uint8_t*>(plain.scales) + from, size);
                std::memcpy(biases_.get() + to, static_cast<const uint8_t*>(plain.biases) + from, size);
            }
        }
    }
    if (bias) {
        bias_.assign(tiles() * kTileRows, 0.0f);
        for (int64_t row = 0; row < rows_; row++) {
            bias_[row] = numbers::load(bias, bias_type, row);
        }
    }
}

int64_t PackedMatrix::bytes() const {
    return tiles() * (tile_bytes_ + 2 * scale_bytes_) + static_cast<int64_t>(bias_.size() * sizeof(float));
}

void PackedMatrix::unpack_rows(const int64_t* ids, int64_t count, void* elements, void* scales, void* biases) const {
    const int step = cell_columns(format_);
    const int lane_bytes = step * bits(format_) / 8;
    const int64_t cells = columns_ / step;
    const int size = cpu::bytes(scale_type_);
    auto* target = static_cast<uint8_t*>(elements);
    for (int64_t i = 0; i < count; i++) {
        const int64_t tile_index = ids[i] / kTileRows, place = ids[i] % kTileRows;
        const uint8_t* lane = tile(tile_index) + place * lane_bytes;
        for (int64_t cell = 0; cell < cells; cell++, target += lane_bytes) {
            unpack_cell(format_, lane + cell * lane_bytes * kTileRows, target);
        }
        for (int64_t group = 0; group < groups(); group++) {
            const int64_t from = (group * kTileRows + place) * size, to = (i * groups() + group) * size;
            std::memcpy(static_cast<uint8_t*>(scales) + to, tile_scales(tile_index) + from, size);
            std::memcpy(static_cast<uint8_t*>(biases) + to, tile_biases(tile_index) + from, size);
        }
    }
}

}  // namespace glasschat::cpu
