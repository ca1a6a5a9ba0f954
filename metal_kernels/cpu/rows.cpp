#include "cpu/rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/share_rows.h"

namespace glasschat::cpu {

namespace {

const RowsKernels& kernels() {
    return GLASSCHAT_IN_FORCE(Rows);
}

}  // namespace

void rms_norm(const NormTask& task) {
    share_rows(task.rows, task.width, [&](int64_t first, int64_t end) { kernels().rms_norm(task, first, end); });
}

void silu_mul(const GateTask& task) {
    share_rows(task.rows, task.width, [&](int64_t first, int64_t end) { kernels().silu_mul(task, first, end); });
}

void add(const AddTask& task) {
    share_rows(task.rows, task.width, [&](int64_t first, int64_t end) { kernels().add(task, first, end); });
}

void greedy(const GreedyTask& task) {
    share_rows(task.rows, task.width, [&](int64_t first, int64_t end) { kernels().greedy(task, first, end); });
}

void rope(const RopeTask& task) {
    // Every layer of a step asks for the same angles, and queries and keys are turned together: kept from call to call.
    static thread_local struct {
        std::vector<int32_t> positions;
        int64_t size = 0;
        float theta = 0;
        std::vector<float> angles;
    } kept;
    const int64_t half = task.size / 2;
    if (kept.size != task.size || kept.theta != task.theta ||
        !std::equal(kept.positions.begin(), kept.positions.end(), task.positions, task.positions + task.rows)) {
        kept.positions.assign(task.positions, task.positions + task.rows);
        kept.size = task.size;
        kept.theta = task.theta;
        kept.angles.resize(2 * task.rows * half);
        std::vector<float> frequencies(half);
        for (int64_t i = 0; i < half; i++) {
            frequencies[i] = std::pow(task.theta, -static_cast<float>(i) / static_cast<float>(half));
        }
        for (int64_t row = 0; row < task.rows; row++) {
            for (int64_t i = 0; i < half; i++) {
                // In float32, as the models were trained.
                const float angle = static_cast<float>(task.positions[row]) * frequencies[i];
                kept.angles[row * half + i] = std::cos(angle);
                kept.angles[(task.rows + row) * half + i] = std::sin(angle);
            }
        }
    }
    const float* angles = kept.angles.data();
    share_rows(task.rows, task.heads * task.size, [&](int64_t first, int64_t end) {
        kernels().rope(task, angles, first, end);
    });
}

}  // namespace glasschat::cpu
