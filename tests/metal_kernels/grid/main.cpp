// Tries the CPU's kernels over a grid of inputs: `kernel_grid` says which levels this processor has, `kernel_grid LEVEL`
// tries one, `kernel_grid LEVEL SUBJECT...` a part of it. Ends with 0, or says what failed and ends with 1.
#include <cstdlib>
#include <iostream>
#include <map>
#include <set>
#include <stdexcept>
#include <string>

#include "cpu/bf16_matmul.h"
#include "cpu/features.h"
#include "cpu/int8_matmul.h"
#include "cpu/pool.h"
#include "grid.h"
#include "report.h"

namespace {

const std::map<std::string, void (*)()>& subjects() {
    static const std::map<std::string, void (*)()> all{
        {"attention", grid::attention_grid},
        {"bf16", [] { grid::bf16_matmul_grid("bf16_matmul", glasschat::cpu::bf16_matmul); }},
        {"dispatch", grid::dispatch_grid},
        {"int8", [] { grid::int8_matmul_grid("int8_matmul", glasschat::cpu::int8_matmul); }},
        {"matmul", grid::matmul_grid},
        {"probe", grid::probe_grid},
        {"rows", grid::rows_grid},
        {"tiles", grid::tiles_grid},
    };
    return all;
}

[[noreturn]] void misused(const std::string& why) {
    std::cerr << why << "; usage: kernel_grid [LEVEL [SUBJECT...]]" << std::endl;
    std::exit(2);
}

}  // namespace

int main(int count, char** arguments) {
    if (count == 1) {
        for (const glasschat::cpu::Level level : glasschat::cpu::supported_levels()) {
            std::cout << glasschat::cpu::name(level) << std::endl;
        }
        return 0;
    }
    const std::set<std::string> wanted(arguments + 2, arguments + count);
    for (const std::string& subject : wanted) {
        if (!subjects().count(subject)) {
            misused(subject + " is no subject");
        }
    }
    try {
        glasschat::cpu::set_level(arguments[1]);
    } catch (const std::invalid_argument& error) {
        misused(error.what());
    }
    // Two, so that what is shared between threads is shared on any machine.
    glasschat::cpu::set_threads(2);
    for (const auto& [name, run] : subjects()) {
        if (wanted.empty() || wanted.count(name)) {
            run();
        }
    }
    return grid::Report::failures() ? 1 : 0;
}
