// The kernels of rows.h, in terms of Lanes. A file that defines those for an instruction set includes this one and gets
// kernels of its own: everything here has internal linkage, so that no file runs code compiled for another.
#pragma once

#include <cfloat>
#include <cstdint>

#include "cpu/lane_memory.h"
#include "cpu/largest_run.h"
#include "cpu/rows.h"

namespace glasschat::cpu {
namespace {

void add_rows(const AddTask& task, int64_t first, int64_t end) {
    const int64_t from = first * task.width, to = end * task.width;
    for (int64_t i = from; i < to; i += 16) {
        const Lanes sum = load_some(task.a, task.type, i, to - i) + load_some(task.b, task.type, i, to - i);
        store_some(sum, task.out, task.type, i, to - i);
    }
}

void rms_norm_rows(const NormTask& given, int64_t first, int64_t end) {
    NormTask task = given;
    if (task.added) {
        const AddTask both{task.x.start, task.added, task.sum, task.type, task.rows, task.width};
        add_rows(both, first, end);
        task.x = {task.sum, task.width};
    }
    for (int64_t row = first; row < end; row++) {
        const int64_t from = row * task.x.stride, to = row * task.width;
        Lanes squares = Lanes::zero();
        for (int64_t i = 0; i < task.width; i += 16) {
            const Lanes x = load_some(task.x.start, task.type, from + i, task.width - i);
            squares = squares.plus_product(x, x);
        }
        const float mean = squares.sum() / static_cast<float>(task.width);
        const Lanes scale = Lanes::all(1.0f / __builtin_sqrtf(mean + task.eps));
        for (int64_t i = 0; i < task.width; i += 16) {
            const int64_t count = task.width - i;
            const Lanes x = load_some(task.x.start, task.type, from + i, count);
            const Lanes weight = load_some(task.weight, task.weight_type, i, count);
            store_some(x * scale * weight, task.out, task.type, to + i, count);
        }
    }
}

void rope_rows(const RopeTask& task, const float* angles, int64_t first, int64_t end) {
    const int64_t half = task.size / 2;
    const float *cosines = angles, *sines = angles + task.rows * half;
    for (int64_t row = first; row < end; row++) {
        for (int64_t head = 0; head < task.heads; head++) {
            const int64_t from = row * task.x.stride + head * task.size, to = (row * task.heads + head) * task.size;
            for (int64_t i = 0; i < half; i += 16) {
                const int64_t count = half - i;
                const Lanes a = load_some(task.x.start, task.type, from + i, count);
                const Lanes b = load_some(task.x.start, task.type, from + half + i, count);
                const Lanes cosine = load_some(cosines, Float::f32, row * half + i, count);
                const Lanes sine = load_some(sines, Float::f32, row * half + i, count);
                store_some(a * cosine - b * sine, task.out, task.type, to + i, count);
                store_some((b * cosine).plus_product(a, sine), task.out, task.type, to + half + i, count);
            }
        }
    }
}

void silu_mul_rows(const GateTask& task, int64_t first, int64_t end) {
    const Lanes zero = Lanes::zero(), one = Lanes::all(1);
    for (int64_t row = first; row < end; row++) {
        for (int64_t i = 0; i < task.width; i += 16) {
            const int64_t count = task.width - i;
            const Lanes gate = load_some(task.gate.start, task.type, row * task.gate.stride + i, count);
            const Lanes up = load_some(task.up.start, task.type, row * task.up.stride + i, count);
            // e^-|gate| can't overflow: sigmoid is 1 / (1 + e^-gate), or e^gate / (1 + e^gate) below 0. `zero` stands
            // first, so that a gate that is no number stays none.
            const Lanes power = (zero - gate).min(gate).exp();
            const Lanes silu = zero.max(gate).plus_product(zero.min(gate), power) / (one + power);
            store_some(silu * up, task.out, task.type, row * task.width + i, count);
        }
    }
}

// Numbers whose largest is found before it is compared with that of those before: few enough to be looked through again
// for where it stands, which is done once in a row.
constexpr int64_t kGreedyRun = 2048;

void greedy_rows(const GreedyTask& task, int64_t first, int64_t end) {
    for (int64_t row = first; row < end; row++) {
        const float* x = task.x + row * task.width;
        Lanes broken = Lanes::zero();
        float best = -FLT_MAX;
        int64_t run = -1;
        for (int64_t i = 0; i < task.width; i += kGreedyRun) {
            const int64_t left = task.width - i;
            const float most = largest_of_run(x + i, left < kGreedyRun ? left : kGreedyRun, broken);
            if (run < 0 || most > best) {
                best = most;
                run = i;
            }
        }
        const float sum = broken.sum();
        int64_t id = sum == sum ? run : task.width;
        // Minus infinity counted as the least finite number: a row of nothing else has none that is equal to it.
        while (id < task.width && x[id] != best) {
            id++;
        }
        task.ids[row] = static_cast<uint32_t>(id);
    }
}

constexpr RowsKernels kRows = {rms_norm_rows, rope_rows, silu_mul_rows, add_rows, greedy_rows};

}  // namespace
}  // namespace glasschat::cpu
