// The probes of products by tile registers, in terms of Tiles beside Lanes, Words and Dots.
#pragma once

#include <bit>
#include <cstdint>

#include "cpu/probe_kernels.h"
#include "cpu/tiles.h"

namespace glasschat::cpu {
namespace {

// A round multiplies once into each of the registers of sums.
constexpr int kTileSums = kTileRuns * kTileMatrices;
constexpr int kTileProducts = kTileSums * kTileRows * kTileRows;

// What all numbers of the sums come to, `number` makes floats of them, after `rounds` rounds of `multiply(sum)` on
// registers that are full of one word.
template <class Multiply, class Number>
float multiply_in_tiles(int64_t rounds, uint32_t word, const Multiply& multiply, const Number& number) {
    alignas(64) uint32_t words[kTileRows][kTileRows];
    for (auto& row : words) {
        for (uint32_t& each : row) {
            each = word;
        }
    }
    Tiles::configure(tile_config(TileConfig::kMostBytes));
    unroll<kTileSums>([](auto i) { Tiles::zero<i>(); });
    unroll<kTileRuns>([&](auto i) { Tiles::load<left_register(i)>(words, sizeof words[0]); });
    unroll<kTileMatrices>([&](auto i) { Tiles::load<right_register(i)>(words, sizeof words[0]); });
    for (int64_t round = 0; round < rounds; round++) {
        unroll<kTileSums>(multiply);
    }
    float total = 0;
    unroll<kTileSums>([&](auto i) {
        Tiles::store<i>(words, sizeof words[0]);
        for (const auto& row : words) {
            for (const uint32_t each : row) {
                total += number(each);
            }
        }
    });
    Tiles::release();
    return total;
}

float multiply_bytes_in_tiles(int64_t rounds) {
    constexpr uint32_t kOnes = 0x01010101;
    const auto multiply = [](auto i) {
        Tiles::plus_bytes<i, left_register(i / kTileMatrices), right_register(i % kTileMatrices)>();
    };
    return multiply_in_tiles(rounds, kOnes, multiply, [](uint32_t word) { return static_cast<float>(word); });
}

float multiply_pairs_in_tiles(int64_t rounds) {
    constexpr uint32_t kOnes = 0x3f803f80;
    const auto multiply = [](auto i) {
        Tiles::plus_pairs<i, left_register(i / kTileMatrices), right_register(i % kTileMatrices)>();
    };
    return multiply_in_tiles(rounds, kOnes, multiply, [](uint32_t word) { return std::bit_cast<float>(word); });
}

constexpr ProbeKernels kTileProbe = {read_all, multiply_floats, multiply_bytes_in_tiles, kProbe.float_operations,
                                     kTileProducts * TileConfig::kMostBytes * 2};
constexpr Bf16Probe kTilePairsProbe = {multiply_pairs_in_tiles, kTileProducts * TileConfig::kMostBytes / 2 * 2};

}  // namespace
}  // namespace glasschat::cpu
