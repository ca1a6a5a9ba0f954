// How the runtime says what it found.
#include "machine.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace emulator {

EmuReport* report(EmuKind kind, Place place, const char* format, ...) {
    EmuLaunch& launch = *machine->launch;
    const uint64_t code = place.offset();
    const char* file = place.site ? place.site->file : "";
    const int line = place.site ? place.site->line : 0;
    for (int i = 0; i < launch.report_count; i++) {
        const EmuReport& other = launch.reports[i];
        if (other.kind == kind && other.code == code && other.line == line && !strcmp(other.file, file)) {
            return nullptr;
        }
    }
    if (launch.report_count == kEmuReports) {
        return nullptr;
    }
    EmuReport& entry = launch.reports[launch.report_count++];
    entry.kind = kind;
    entry.line = line;
    entry.code = code;
    entry.other = 0;
    snprintf(entry.file, sizeof entry.file, "%s", file);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(entry.message, sizeof entry.message, format, arguments);
    va_end(arguments);
    return &entry;
}

std::string group_name(const EmuIds& ids) {
    const unsigned* g = ids.group_in_grid;
    return "threadgroup (" + std::to_string(g[0]) + ", " + std::to_string(g[1]) + ", " + std::to_string(g[2]) + ")";
}

std::string thread_name(const EmuIds& ids) {
    return "thread " + std::to_string(ids.thread_index) + " of " + group_name(ids);
}

bool late() { return std::chrono::steady_clock::now() > machine->deadline; }

void report_late(const Fiber& fiber, Place place) {
    report(kEmuStuck, place, "not finished after %d seconds, in %s", machine->launch->seconds,
           thread_name(fiber.ids).c_str());
}

}  // namespace emulator
