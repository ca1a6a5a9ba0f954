// The tile registers of a processor with AMX in plain C++, for the machines without: what the Intel 64 Architectures
// Software Developer's Manual says of LDTILECFG, TILELOADD, TILESTORED, TDPBSUD and TDPBF16PS, with its faults. The
// kernels are compiled with this in the place of cpu/tiles_amx.h.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "cpu/tiles.h"

namespace glasschat::cpu {
namespace {

struct Tiles {
    static void configure(const TileConfig& config) {
        TileConfig checked;
        std::memcpy(&checked, &config, sizeof checked);  // as the processor reads it
        check(checked.palette == 1 && checked.start_row == 0, "a palette other than 1, or a start in the middle");
        for (const uint8_t each : checked.reserved) {
            check(each == 0, "reserved bytes of a configuration that are not zero");
        }
        for (int i = 0; i < 16; i++) {
            const int rows = checked.rows[i], row_bytes = checked.row_bytes[i];
            check(i < TileConfig::kRegisters || (!rows && !row_bytes), "a ninth register");
            check(rows <= TileConfig::kMostRows && row_bytes <= TileConfig::kMostBytes && !rows == !row_bytes,
                  "a register of a size that there is not");
        }
        now().config = checked;
        now().configured = true;
        std::memset(now().bytes, 0, sizeof now().bytes);
    }

    static void release() { now().configured = false; }

    template <int T>
    static void zero() {
        std::memset(now().bytes[used<T>()], 0, sizeof now().bytes[T]);
    }

    template <int T>
    static void load(const void* from, int64_t stride) {
        zero<T>();
        for (int row = 0; row < now().config.rows[T]; row++) {
            const auto* start = static_cast<const uint8_t*>(from) + row * stride;
            std::memcpy(now().bytes[T][row], start, now().config.row_bytes[T]);
        }
    }

    template <int T>
    static void store(void* to, int64_t stride) {
        for (int row = 0; row < now().config.rows[used<T>()]; row++) {
            std::memcpy(static_cast<uint8_t*>(to) + row * stride, now().bytes[T][row], now().config.row_bytes[T]);
        }
    }

    template <int Sum, int Left, int Right>
    static void plus_bytes() {
        multiply<Sum, Left, Right>([](uint32_t sum, const auto& left, const auto& right, int depth) {
            for (int k = 0; k < depth; k++) {
                for (int byte = 0; byte < 4; byte++) {
                    const auto a = static_cast<int8_t>(left(k) >> (8 * byte));
                    const auto b = static_cast<uint8_t>(right(k) >> (8 * byte));
                    sum += static_cast<uint32_t>(a * b);  // past 32 bits it begins anew
                }
            }
            return sum;
        });
    }

    // Products of the even columns and of the odd ones are added up apart, each with one rounding to the nearest; then the
    // two sums, and last to what was there. Numbers that are not normal count as zero, as operands and as results.
    template <int Sum, int Left, int Right>
    static void plus_pairs() {
        multiply<Sum, Left, Right>([](uint32_t sum, const auto& left, const auto& right, int depth) {
            float even = 0, odd = 0;
            for (int k = 0; k < depth; k++) {
                even = normal(std::fma(bf16(left(k) << 16), bf16(right(k) << 16), even));
                odd = normal(std::fma(bf16(left(k) & 0xffff0000), bf16(right(k) & 0xffff0000), odd));
            }
            const float more = normal(even + odd);
            return std::bit_cast<uint32_t>(normal(normal(std::bit_cast<float>(sum)) + more));
        });
    }

   private:
    struct State {
        bool configured = false;
        TileConfig config;
        uint8_t bytes[TileConfig::kRegisters][TileConfig::kMostRows][TileConfig::kMostBytes];
    };

    // Every thread has its own.
    static State& now() {
        static thread_local State state;
        return state;
    }

    static void check(bool holds, const char* otherwise) {
        if (!holds) {
            std::cerr << "the processor would stop: " << otherwise << std::endl;
            std::_Exit(1);
        }
    }

    template <int T>
    static int used() {
        static_assert(T >= 0 && T < TileConfig::kRegisters);
        check(now().configured && now().config.rows[T], "a register that is not configured");
        return T;
    }

    static uint32_t word(int tile, int row, int column) {
        uint32_t bits;
        std::memcpy(&bits, &now().bytes[tile][row][4 * column], sizeof bits);
        return bits;
    }

    // Each word of the sums from itself, a row of the left register and a column of the right one.
    template <int Sum, int Left, int Right, class Add>
    static void multiply(const Add& add) {
        static_assert(Sum != Left && Sum != Right && Left != Right);
        const TileConfig& config = now().config;
        const int rows = config.rows[used<Sum>()], columns = config.row_bytes[Sum] / 4;
        const int depth = config.row_bytes[used<Left>()] / 4;
        check(config.row_bytes[Sum] % 4 == 0 && config.row_bytes[Left] % 4 == 0, "rows that are not whole words");
        check(config.rows[Left] == rows && config.row_bytes[used<Right>()] == config.row_bytes[Sum] &&
                  config.rows[Right] == depth,
              "registers whose sizes do not belong together");
        for (int row = 0; row < rows; row++) {
            for (int column = 0; column < columns; column++) {
                const uint32_t sum = add(
                    word(Sum, row, column), [&](int k) { return word(Left, row, k); },
                    [&](int k) { return word(Right, k, column); }, depth);
                std::memcpy(&now().bytes[Sum][row][4 * column], &sum, sizeof sum);
            }
        }
    }

    static float normal(float value) { return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value; }

    static float bf16(uint32_t bits) { return normal(std::bit_cast<float>(bits)); }
};

}  // namespace
}  // namespace glasschat::cpu
