// Threads, and where they wait for each other.
#include "machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace emulator {

void wait() { machine->running->context.switch_to(machine->main); }

void stop() {
    machine->failed = true;
    machine->running->state = State::done;
    wait();
    abort();
}

namespace {

const char* base_name(const char* file) {
    const char* slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

bool same(const EmuSite& a, const EmuSite& b) {
    return a.line == b.line && a.column == b.column && !strcmp(a.what, b.what) && !strcmp(a.file, b.file);
}

bool before(const EmuSite& a, const EmuSite& b) {
    return a.line != b.line ? a.line < b.line : a.column < b.column;
}

// Hands the values of the lanes in `active` round and lets them go on.
void release_lanes(Simdgroup& group, unsigned number, unsigned active) {
    Fiber* fibers = &machine->fibers[number * kSimdgroup];
    for (unsigned lane = 0; lane < group.size; lane++) {
        if (active >> lane & 1) {
            memcpy(group.values + kValue * lane, fibers[lane].value, fibers[lane].size);
            fibers[lane].lanes = {group.values, active, lane};
            fibers[lane].state = State::ready;
            group.arrived--;
        }
    }
    const int flags = fibers[__builtin_ctz(active)].flags;
    group.device.simdgroup += flags & kEmuDevice ? 1 : 0;
    group.threadgroup.simdgroup += flags & kEmuThreadgroup ? 1 : 0;
    group.one_site = true;
}

void meet_lanes(const void* value, unsigned size, int flags, const EmuSite& site) {
    Fiber& fiber = *machine->running;
    Simdgroup& group = simdgroup_of(fiber);
    const Fiber* fibers = &machine->fibers[fiber.ids.simdgroup * kSimdgroup];
    for (unsigned lane = 0; group.arrived && group.one_site && lane < group.size; lane++) {
        if (fibers[lane].state == State::in_simdgroup) {
            group.one_site = same(fibers[lane].site, site);
            break;
        }
    }
    fiber.site = site;
    fiber.flags = flags;
    fiber.size = size;
    if (size) {
        memcpy(fiber.value, value, size);
    }
    fiber.state = State::in_simdgroup;
    group.arrived++;
    if (group.arrived == group.size && group.one_site) {
        release_lanes(group, fiber.ids.simdgroup, group.size == kSimdgroup ? ~0u : (1u << group.size) - 1);
    } else {
        wait();
    }
}

// Nobody can go on: some lanes are in a simdgroup function that others did not reach. Lets those go on that are first
// in the source, as lanes that took a branch do before all meet behind it; says whether there were any.
bool release_some_lanes() {
    bool released = false;
    for (size_t number = 0; number < machine->simdgroups.size(); number++) {
        Simdgroup& group = machine->simdgroups[number];
        if (!group.arrived) {
            continue;
        }
        const Fiber* fibers = &machine->fibers[number * kSimdgroup];
        const Fiber* first = nullptr;
        for (unsigned lane = 0; lane < group.size; lane++) {
            if (fibers[lane].state == State::in_simdgroup && (!first || before(fibers[lane].site, first->site))) {
                first = &fibers[lane];
            }
        }
        unsigned active = 0;
        for (unsigned lane = 0; lane < group.size; lane++) {
            if (fibers[lane].state == State::in_simdgroup && same(fibers[lane].site, first->site)) {
                active |= 1u << lane;
            }
        }
        if (!machine->launch->partial_simdgroups) {
            std::string others;
            for (unsigned lane = 0; lane < group.size && others.empty(); lane++) {
                const Fiber& other = fibers[lane];
                if (active >> lane & 1) {
                    continue;
                }
                others = "lane " + std::to_string(lane);
                others += other.state == State::done ? " has returned"
                                                     : std::string(" is at ") + other.site.what + ", " +
                                                           base_name(other.site.file) + ":" +
                                                           std::to_string(other.site.line);
            }
            report(kEmuDivergence, {&first->site, nullptr},
                   "%s is reached by %d of the %u lanes of simdgroup %zu, %s: %s", first->site.what,
                   __builtin_popcount(active), group.size, number, group_name(first->ids).c_str(), others.c_str());
            machine->failed = true;
            return false;
        }
        release_lanes(group, unsigned(number), active);
        released = true;
    }
    return released;
}

void release_barrier() {
    const int flags = machine->fibers[0].flags;
    machine->device_epoch += flags & kEmuDevice ? 1 : 0;
    machine->threadgroup_epoch += flags & kEmuThreadgroup ? 1 : 0;
    machine->at_barrier = 0;
    for (Fiber& fiber : machine->fibers) {
        fiber.state = State::ready;
    }
}

void report_barrier() {
    std::map<std::string, int> places;
    const Fiber* first = nullptr;
    for (const Fiber& fiber : machine->fibers) {
        if (fiber.state == State::done) {
            places["have returned"]++;
            continue;
        }
        places["are at " + std::string(base_name(fiber.site.file)) + ":" + std::to_string(fiber.site.line)]++;
        if (!first || before(fiber.site, first->site)) {
            first = &fiber;
        }
    }
    std::string all;
    for (const auto& [place, count] : places) {
        all += (all.empty() ? "" : ", ") + std::to_string(count) + " " + place;
    }
    report(kEmuDivergence, {&first->site, nullptr}, "threadgroup_barrier is not reached by all %zu threads of %s: %s",
           machine->fibers.size(), group_name(first->ids).c_str(), all.c_str());
    machine->failed = true;
}

}  // namespace

std::vector<unsigned> in_order(size_t count) {
    std::vector<unsigned> order(count);
    for (size_t i = 0; i < count; i++) {
        order[i] = unsigned(machine->launch->order == 1 ? count - 1 - i : i);
    }
    return order;
}

void shuffle(std::vector<unsigned>& order) {
    for (size_t i = order.size(); i > 1; i--) {
        std::swap(order[i - 1], order[machine->next_random() % i]);
    }
}

void run_group() {
    std::vector<unsigned> order = in_order(machine->fibers.size());
    size_t done = 0;
    while (done < machine->fibers.size()) {
        bool progress = false;
        if (machine->launch->order == 2) {
            shuffle(order);
        }
        if (late()) {
            report_late(machine->fibers[order[0]], {});
            machine->failed = true;
            return;
        }
        for (const unsigned thread : order) {
            Fiber& fiber = machine->fibers[thread];
            if (fiber.state != State::ready) {
                continue;
            }
            progress = true;
            machine->running = &fiber;
            machine->main.switch_to(fiber.context);
            machine->running = nullptr;
            if (machine->failed) {
                return;
            }
            if (memcmp(fiber.stack, &kStackEnd, sizeof kStackEnd) != 0) {
                report(kEmuOutOfBounds, {}, "more than %zu bytes of private memory in %s", kStack,
                       thread_name(fiber.ids).c_str());
                machine->failed = true;
                return;
            }
            done += fiber.state == State::done;
        }
        if (progress || release_some_lanes()) {
            continue;
        }
        if (!machine->failed && done < machine->fibers.size()) {
            report_barrier();
        }
        if (machine->failed) {
            return;
        }
    }
}

}  // namespace emulator

using namespace emulator;

extern "C" {

const EmuIds* emu_ids() { return &machine->running->ids; }

void emu_exchange(const void* value, unsigned size, const EmuSite* site, EmuLanes* lanes) {
    meet_lanes(value, size, 0, *site);
    *lanes = machine->running->lanes;
}

void emu_inactive_lane(const EmuSite* site, unsigned lane) {
    report(kEmuDivergence, {site, nullptr}, "%s reads the value of lane %u, which takes no part, in %s", site->what,
           lane, thread_name(machine->running->ids).c_str());
}

void emu_simdgroup_barrier(int flags, const EmuSite* site) { meet_lanes(nullptr, 0, flags, *site); }

void emu_threadgroup_barrier(int flags, const EmuSite* site) {
    Fiber& fiber = *machine->running;
    if (machine->at_barrier == 0) {
        machine->one_barrier = true;
    } else if (machine->one_barrier) {
        const auto other = std::find_if(machine->fibers.begin(), machine->fibers.end(),
                                        [](const Fiber& f) { return f.state == State::at_barrier; });
        machine->one_barrier = same(other->site, *site);
    }
    fiber.site = *site;
    fiber.flags = flags;
    fiber.state = State::at_barrier;
    machine->at_barrier++;
    if (machine->at_barrier == machine->fibers.size() && machine->one_barrier) {
        release_barrier();
    } else {
        wait();
    }
}

}  // extern "C"
