#include "cpu/expert_linear.h"

#include <cmath>
#include <cstring>

#include "cpu/scratch.h"

namespace glasschat::cpu {

void expert_linear(const ExpertTask& task) {
    const auto count = static_cast<int64_t>(task.experts.size());
    const int64_t outputs = task.experts.front()->rows(), item = bytes(task.type);
    const int64_t row_bytes = task.experts.front()->columns() * item, output_bytes = outputs * item;
    const auto* x = static_cast<const uint8_t*>(task.x);
    auto* y = static_cast<uint8_t*>(task.y);

    // Places in `chosen`, by their expert.
    std::vector<std::vector<int64_t>> places(count);
    for (int64_t place = 0; place < task.rows * task.share; place++) {
        const int64_t expert = task.chosen[place];
        if (expert >= 0 && expert < count) {
            places[expert].push_back(place);
            continue;
        }
        for (int64_t output = 0; output < outputs; output++) {
            numbers::store(y, task.type, place * outputs + output, NAN);
        }
    }

    static thread_local Scratch<uint8_t> kept_rows, kept_products;
    for (int64_t expert = 0; expert < count; expert++) {
        const std::vector<int64_t>& own = places[expert];
        if (own.empty()) {
            continue;
        }
        const auto rows = static_cast<int64_t>(own.size());
        uint8_t* gathered = scratch(kept_rows, rows * row_bytes);
        uint8_t* products = scratch(kept_products, rows * output_bytes);
        for (int64_t row = 0; row < rows; row++) {
            std::memcpy(gathered + row * row_bytes, x + own[row] / task.share * row_bytes, row_bytes);
        }
        task.multiply(*task.experts[expert], {gathered, products, task.type, rows});
        for (int64_t row = 0; row < rows; row++) {
            std::memcpy(y + own[row] * output_bytes, products + row * output_bytes, output_bytes);
        }
    }
}

}  // namespace glasschat::cpu
