// Operations that look at one row of numbers at a time: normalization, rotation, the gate of the MLP. All compute in
// float32 and round once. They use the thread pool.
#pragma once

#include <cstdint>

#include "cpu/numbers.h"

namespace glasschat::cpu {

// Rows of numbers in memory: neighbours in a row stand side by side, rows `stride` numbers apart.
struct Rows {
    const void* start;
    int64_t stride;
};

// out[r] = x[r] / sqrt(mean of x[r]^2 + eps) * weight, [rows, width]; `out` has no gaps. Of x + added where there is
// something to add, a residual say: that sum, rounded, is left in `sum`. Neither has gaps, and both may be one.
struct NormTask {
    Rows x;
    const void* weight;
    void* out;
    Float type;
    Float weight_type;
    int64_t rows;
    int64_t width;
    float eps;
    const void* added = nullptr;
    void* sum = nullptr;
};
void rms_norm(const NormTask& task);

// Turns heads [rows, heads, size] by their row's position: elements i and i + size / 2 are a point, turned by
// position / theta^(2i / size). `out` has no gaps.
struct RopeTask {
    Rows x;
    const int32_t* positions;
    void* out;
    Float type;
    int64_t rows;
    int64_t heads;
    int64_t size;
    float theta;
};
void rope(const RopeTask& task);

// out = gate * sigmoid(gate) * up, [rows, width]; `out` has no gaps.
struct GateTask {
    Rows gate;
    Rows up;
    void* out;
    Float type;
    int64_t rows;
    int64_t width;
};
void silu_mul(const GateTask& task);

// out = a + b, [rows, width]; none has gaps, and `out` may be one of them.
struct AddTask {
    const void* a;
    const void* b;
    void* out;
    Float type;
    int64_t rows;
    int64_t width;
};
void add(const AddTask& task);

// ids[r] of the largest number of x[r], [rows, width] without gaps; of equal ones the lowest id. Where a row's largest is
// not finite, or a number in it is none at all, `width`.
struct GreedyTask {
    const float* x;
    uint32_t* ids;
    int64_t rows;
    int64_t width;
};
void greedy(const GreedyTask& task);

// The kernels of one instruction set, for a range of rows.
struct RowsKernels {
    void (*rms_norm)(const NormTask& task, int64_t first, int64_t end);
    // `angles` are cosines [rows, size / 2], then as many sines, of all rows of the task.
    void (*rope)(const RopeTask& task, const float* angles, int64_t first, int64_t end);
    void (*silu_mul)(const GateTask& task, int64_t first, int64_t end);
    void (*add)(const AddTask& task, int64_t first, int64_t end);
    void (*greedy)(const GreedyTask& task, int64_t first, int64_t end);
};

extern const RowsKernels kPortableRows;
extern const RowsKernels kAvx2Rows;
extern const RowsKernels kAvx512Rows;
extern const RowsKernels kNeonRows;

}  // namespace glasschat::cpu
