// Runs a kernel: one fiber for each thread, one threadgroup after the other, switching where threads wait for each
// other. Between two such places a thread runs alone, so what is found does not depend on luck: races are found from
// who touched which memory between which barriers, not from seeing wrong values.
#include "machine.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

namespace emulator {

Machine* machine = nullptr;

namespace {

char* reserve(size_t bytes) {
    void* found = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return found == MAP_FAILED ? nullptr : static_cast<char*>(found);
}

void release(char* memory, size_t bytes) {
    if (memory) {
        munmap(memory, bytes);
    }
}

void entry() {
    machine->launch->kernel();
    machine->running->state = State::done;
    wait();
    abort();
}

void start_group(unsigned number, const unsigned (&groups)[3]) {
    const EmuLaunch& launch = *machine->launch;
    const unsigned position[3] = {number % groups[0], number / groups[0] % groups[1], number / groups[0] / groups[1]};
    unsigned size[3];
    for (int axis = 0; axis < 3; axis++) {
        size[axis] = std::min(launch.group[axis], launch.grid[axis] - position[axis] * launch.group[axis]);
    }
    const unsigned threads = size[0] * size[1] * size[2];
    const unsigned full = launch.group[0] * launch.group[1] * launch.group[2];
    machine->serial = number + 1;
    machine->device_epoch = machine->threadgroup_epoch = 1;
    machine->at_barrier = 0;
    machine->one_barrier = true;
    for (const Range& range : machine->ranges) {
        if (range.memory == Memory::threadgroup) {
            forget(range);
        }
    }
    machine->simdgroups.assign((threads + kSimdgroup - 1) / kSimdgroup, {});
    for (size_t i = 0; i < machine->simdgroups.size(); i++) {
        machine->simdgroups[i].size = std::min(kSimdgroup, threads - unsigned(i) * kSimdgroup);
        machine->simdgroups[i].device.simdgroup = machine->simdgroups[i].threadgroup.simdgroup = 1;
    }
    machine->fibers.resize(threads);
    for (unsigned thread = 0; thread < threads; thread++) {
        Fiber& fiber = machine->fibers[thread];
        const unsigned inside[3] = {thread % size[0], thread / size[0] % size[1], thread / size[0] / size[1]};
        EmuIds& ids = fiber.ids;
        for (int axis = 0; axis < 3; axis++) {
            ids.thread_in_group[axis] = inside[axis];
            ids.group_in_grid[axis] = position[axis];
            ids.thread_in_grid[axis] = position[axis] * launch.group[axis] + inside[axis];
            ids.group_size[axis] = size[axis];
            ids.full_group_size[axis] = launch.group[axis];
            ids.grid[axis] = launch.grid[axis];
            ids.groups[axis] = groups[axis];
        }
        ids.thread_index = thread;
        ids.lane = thread % kSimdgroup;
        ids.simdgroup = thread / kSimdgroup;
        ids.simdgroups = unsigned(machine->simdgroups.size());
        ids.full_simdgroups = (full + kSimdgroup - 1) / kSimdgroup;
        fiber.stack = machine->stacks + thread * kStack;
        fiber.state = State::ready;
        memcpy(fiber.stack, &kStackEnd, sizeof kStackEnd);
        fiber.context.start(fiber.stack, kStack, entry);
    }
}

void run(EmuLaunch& launch) {
    for (int i = 0; i < launch.buffer_count; i++) {
        const EmuBuffer& buffer = launch.buffers[i];
        if (buffer.flags & kEmuAlias) {
            continue;
        }
        Range range;
        range.begin = reinterpret_cast<uintptr_t>(buffer.data);
        range.end = range.begin + buffer.size;
        range.index = buffer.index;
        range.flags = buffer.flags;
        range.element_size = buffer.element_size;
        if (launch.checked && buffer.flags & kEmuWritable) {
            range.watch();
        }
        machine->ranges.push_back(std::move(range));
    }
    unsigned groups[3];
    for (int axis = 0; axis < 3; axis++) {
        groups[axis] = (launch.grid[axis] + launch.group[axis] - 1) / launch.group[axis];
    }
    std::vector<unsigned> order = in_order(size_t{groups[0]} * groups[1] * groups[2]);
    if (launch.order == 2) {
        shuffle(order);
    }
    static const char keys[31] = {};
    for (const unsigned bytes : launch.threadgroup_bytes) {
        count_threadgroup_memory(bytes, {});
    }
    for (const unsigned number : order) {
        start_group(number, groups);
        for (int i = 0; i < 31; i++) {
            if (launch.threadgroup_bytes[i]) {
                threadgroup_memory(&keys[i], i, launch.threadgroup_bytes[i], 16);
            }
        }
        if (!machine->failed) {
            run_group();
        }
        if (machine->failed) {
            return;
        }
    }
    for (const Range& range : machine->ranges) {
        if (launch.checked && range.flags & kEmuComplete) {
            report_never_written(range);
        }
    }
}

}  // namespace
}  // namespace emulator

using namespace emulator;

extern "C" {

int emu_launch(EmuLaunch* launch) {
    Machine here;
    machine = &here;
    here.launch = launch;
    here.random = launch->seed;
    here.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(launch->seconds);
    Dl_info self;
    dladdr(reinterpret_cast<void*>(emu_launch), &self);
    here.image = reinterpret_cast<uintptr_t>(self.dli_fbase);
    here.image_low = reinterpret_cast<uintptr_t>(launch->kernel);
    here.image_high = here.image_low + 1;
    const size_t bytes = size_t{launch->group[0]} * launch->group[1] * launch->group[2] * kStack;
    here.stacks = reserve(bytes);
    here.threadgroup_arena = reserve(kThreadgroupArena);
    const bool room = here.stacks && here.threadgroup_arena;
    if (room) {
        run(*launch);
    }
    release(here.stacks, bytes);
    release(here.threadgroup_arena, kThreadgroupArena);
    launch->threadgroup_bytes_used = here.threadgroup_used;
    machine = nullptr;
    return !room ? -1 : here.failed ? 1 : 0;
}

}  // extern "C"
