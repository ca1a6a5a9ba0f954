// Runs a kernel: one fiber for each thread, one threadgroup after the other, switching where threads wait for each
// other. Between two such places a thread runs alone, so what is found does not depend on luck: races are found from
// who touched which memory between which barriers, not from seeing wrong values.
#include "fiber.h"  // first: it may choose the standard that <ucontext.h> follows
#include "checks.h"
#include "interface.h"
#include "shadow.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

namespace emulator {
namespace {

constexpr size_t kStack = 128 * 1024;
constexpr size_t kThreadgroupLimit = 32 * 1024;   // of every Apple GPU so far
constexpr size_t kThreadgroupArena = 512 * 1024;  // with room to measure what is too much, and a gap after each variable
constexpr size_t kGap = 1024;
constexpr unsigned kValue = 32;  // the most bytes that a lane hands over at once
constexpr uint64_t kStackEnd = 0x9e3779b97f4a7c15;

enum class State : uint8_t { ready, at_barrier, in_simdgroup, done };

struct Fiber {
    Context context;
    char* stack = nullptr;
    State state = State::ready;
    EmuSite site{};
    EmuIds ids{};
    EmuLanes lanes{};
    int flags = 0;         // of the barrier it waits at
    unsigned size = 0;     // of the value it hands over
    char value[kValue];
};

struct Simdgroup {
    unsigned size = 0, arrived = 0;
    bool one_site = true;
    Epochs device, threadgroup;  // only .simdgroup is its own
    char values[kSimdgroup * kValue];
};

struct Constant {
    int index;
    void* value;
    unsigned size;
    const char* name;
    bool set;
};

std::vector<Constant>& constants() {
    static std::vector<Constant> all;
    return all;
}

struct Machine {
    EmuLaunch* launch = nullptr;
    Context main;
    Fiber* running = nullptr;
    bool failed = false;
    std::vector<Fiber> fibers;
    std::vector<Simdgroup> simdgroups;
    uint32_t serial = 0;  // of the threadgroup, from 1
    uint32_t device_epoch = 0, threadgroup_epoch = 0;
    size_t at_barrier = 0;
    bool one_barrier = true;
    std::vector<Range> ranges;
    Range* last = nullptr;
    std::map<const char*, size_t> variables;  // key to index in ranges
    size_t threadgroup_top = 0, threadgroup_used = 0;
    char* stacks = nullptr;
    char* threadgroup_arena = nullptr;
    uintptr_t image = 0, image_low = 0, image_high = 0;
    uint64_t random = 0, accesses = 0;
    std::chrono::steady_clock::time_point deadline;

    uint64_t next_random() {  // splitmix64
        uint64_t x = random += 0x9e3779b97f4a7c15;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
        x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
        return x ^ (x >> 31);
    }
};

Machine* machine = nullptr;

struct Place {
    const EmuSite* site = nullptr;
    const void* code = nullptr;

    uint64_t offset() const { return code ? reinterpret_cast<uintptr_t>(code) - machine->image : 0; }
};

// One report for each kind and line: the first. Returns it where it is new.
__attribute__((format(printf, 3, 4))) EmuReport* report(EmuKind kind, Place place, const char* format, ...) {
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

void wait() { machine->running->context.switch_to(machine->main); }

// Ends the launch from within a thread.
[[noreturn]] void stop() {
    machine->failed = true;
    machine->running->state = State::done;
    wait();
    abort();
}

void entry() {
    machine->launch->kernel();
    machine->running->state = State::done;
    wait();
    abort();
}

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

// ---- waiting for each other

Simdgroup& simdgroup_of(const Fiber& fiber) { return machine->simdgroups[fiber.ids.simdgroup]; }

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

// ---- memory

// Program-scope constants lie in the library itself.
bool in_image(uintptr_t address) {
    if (machine->image_low <= address && address < machine->image_high) {
        return true;
    }
    Dl_info found;
    if (!dladdr(reinterpret_cast<void*>(address), &found) ||
        reinterpret_cast<uintptr_t>(found.dli_fbase) != machine->image) {
        return false;
    }
    machine->image_low = std::min(machine->image_low, address);
    machine->image_high = std::max(machine->image_high, address + 1);
    return true;
}

std::string name_of(const Range& range) {
    if (range.memory == Memory::device) {
        return "buffer(" + std::to_string(range.index) + ")";
    }
    return range.index < 0 ? "a threadgroup variable" : "threadgroup(" + std::to_string(range.index) + ")";
}

std::string element_of(const Range& range, uintptr_t address) {
    const uintptr_t offset = address - range.begin;
    if (range.memory == Memory::threadgroup) {
        return "byte " + std::to_string(offset) + " of " + name_of(range);
    }
    return "element " + std::to_string(offset / range.element_size) + " of " + name_of(range);
}

[[noreturn]] void out_of_bounds(uintptr_t address, unsigned size, bool write, Place place) {
    const Range* nearest = nullptr;
    uintptr_t distance = ~uintptr_t{0};
    for (const Range& range : machine->ranges) {
        const uintptr_t d = address < range.begin ? range.begin - address : address >= range.end ? address - range.end : 0;
        if (d < distance) {
            distance = d;
            nearest = &range;
        }
    }
    std::string where = "no memory of the kernel's";
    if (nearest && distance < (1u << 30)) {
        where = (address < nearest->begin ? std::to_string(distance) + " byte(s) before " :
                 std::to_string(distance) + " byte(s) past the end of ") +
                name_of(*nearest) + ", which has " + std::to_string(nearest->end - nearest->begin);
    }
    report(kEmuOutOfBounds, place, "%s of %u byte(s) out of bounds, %s, by %s", write ? "write" : "read", size,
           where.c_str(), thread_name(machine->running->ids).c_str());
    stop();
}

Range* find(uintptr_t address) {
    if (machine->last && machine->last->holds(address)) {
        return machine->last;
    }
    for (Range& range : machine->ranges) {
        if (range.holds(address)) {
            return machine->last = &range;
        }
    }
    return nullptr;
}

enum class Access { read, write, atomic_read, atomic_write };

// Whether nothing orders `mark` before what `now` does to the same memory.
bool unordered(const Mark& mark, const Mark& now, Memory memory) {
    if (!mark.who || mark.who == now.who) {
        return false;
    }
    if (mark.group() != now.group()) {
        return memory == Memory::device;
    }
    if (mark.when.group < now.when.group) {
        return false;
    }
    return mark.simdgroup() != now.simdgroup() || mark.when.simdgroup >= now.when.simdgroup;
}

void report_race(const Range& range, uintptr_t address, const Mark& other, const char* kind, Place place) {
    const EmuIds& ids = machine->running->ids;
    const bool elsewhere = other.group() != machine->serial;
    EmuReport* entry = report(
        kEmuRace, place, "%s, on %s, with no barrier for %s memory between: thread %u of %s, then %s", kind,
        element_of(range, address).c_str(), range.memory == Memory::device ? "device" : "threadgroup", other.thread(),
        elsewhere ? "another threadgroup" : "the same threadgroup", thread_name(ids).c_str());
    if (entry) {
        entry->other = other.code;
    }
}

void check(Range& range, uintptr_t address, unsigned size, Access access, Place place) {
    const bool atomic = access == Access::atomic_read || access == Access::atomic_write;
    const bool write = access == Access::write || access == Access::atomic_write;
    const Fiber& fiber = *machine->running;
    const Simdgroup& simdgroup = simdgroup_of(fiber);
    const bool device = range.memory == Memory::device;
    const Mark now{machine->serial * kLargestGroup + fiber.ids.thread_index,
                   {device ? machine->device_epoch : machine->threadgroup_epoch,
                    device ? simdgroup.device.simdgroup : simdgroup.threadgroup.simdgroup},
                   uint32_t(place.offset())};
    const auto races = [&](const Mark& mark) { return unordered(mark, now, range.memory); };
    const auto written = [&](const Mark& mark) { return mark.who && (device || mark.group() == machine->serial); };
    const size_t first = range.first(address, size);
    if (atomic && range.atomics.empty()) {
        range.atomics.resize(range.cells.size());
    }
    for (unsigned done = 0; done < size; done += 1u << range.shift) {
        const uintptr_t here = address + done;
        Cell& cell = range.cells[first + (done >> range.shift)];
        Recent* atomics = range.atomics.empty() ? nullptr : &range.atomics[first + (done >> range.shift)];
        if (!write && !(range.flags & kEmuInitialised) && !written(cell.write) &&
            !(atomics && written(atomics->last))) {
            report(kEmuUninitialised, place, "read of %s, which nothing has written, by %s",
                   element_of(range, here).c_str(), thread_name(fiber.ids).c_str());
        }
        const Mark* other = nullptr;
        if (races(cell.write)) {
            report_race(range, here, cell.write, write ? "two writes" : "a write and a read", place);
        } else if (atomics && !atomic && (other = atomics->find(races))) {
            report_race(range, here, *other, "an atomic operation and a plain one", place);
        } else if (write && (other = cell.reads.find(races))) {
            report_race(range, here, *other, "a read and a write", place);
        }
        if (atomic) {
            atomics->note(now);
        } else if (write) {
            cell.write = now;
        } else {
            cell.reads.note(now);
        }
    }
}

void access(uintptr_t address, unsigned size, Access kind, Place place) {
    if (!machine || !machine->running || machine->failed) {
        return;
    }
    const bool write = kind == Access::write || kind == Access::atomic_write;
    if (address - reinterpret_cast<uintptr_t>(machine->running->stack) < kStack) {
        return;
    }
    if ((++machine->accesses & 0xfffff) == 0 && late()) {
        report_late(*machine->running, place);
        stop();
    }
    Range* range = find(address);
    if (!range) {
        const uintptr_t stacks = reinterpret_cast<uintptr_t>(machine->stacks);
        if (address >= stacks && address - stacks < machine->fibers.size() * kStack) {
            report(kEmuOutOfBounds, place, "%s of memory that is private to another thread, by %s",
                   write ? "write" : "read", thread_name(machine->running->ids).c_str());
            stop();
        }
        if (in_image(address)) {
            for (const Constant& constant : constants()) {
                const uintptr_t begin = reinterpret_cast<uintptr_t>(constant.value);
                if (!constant.set && address >= begin && address < begin + constant.size) {
                    report(kEmuNotSet, place, "function_constant(%d), %s, is used but was not given a value",
                           constant.index, constant.name);
                }
            }
            return;
        }
    }
    if (!range || address + size > range->end) {
        out_of_bounds(range ? range->end : address, size, write, place);
    }
    if (write && !(range->flags & kEmuWritable)) {
        report(kEmuWriteToInput, place, "write to %s, an input, by %s", element_of(*range, address).c_str(),
               thread_name(machine->running->ids).c_str());
        return;
    }
    if (!range->cells.empty()) {
        check(*range, address, size, kind, place);
    }
}

void report_never_written(const Range& range) {
    const uintptr_t step = uintptr_t{1} << range.shift;
    std::vector<uintptr_t> missing;
    for (uintptr_t offset = 0; offset < range.end - range.begin; offset += step) {
        const uintptr_t element = offset / range.element_size;
        if (!range.is_written(offset >> range.shift) && (missing.empty() || missing.back() != element)) {
            missing.push_back(element);
        }
    }
    if (!missing.empty()) {
        report(kEmuNeverWritten, {}, "%zu of the %zu elements of buffer(%d), an output, are never written; the first is element %zu",
               missing.size(), size_t((range.end - range.begin) / range.element_size), range.index, size_t(missing[0]));
    }
}

// ---- the launch

void* threadgroup_memory(const char* key, int index, size_t size, size_t alignment, Place place) {
    const auto found = machine->variables.find(key);
    if (found != machine->variables.end()) {
        return reinterpret_cast<void*>(machine->ranges[found->second].begin);
    }
    size_t& top = machine->threadgroup_top;
    top = (top + alignment - 1) / alignment * alignment;
    machine->threadgroup_used += (size + 15) / 16 * 16;
    if (machine->threadgroup_used > kThreadgroupLimit) {
        report(kEmuThreadgroupMemory, place, "the threadgroup needs more than the 32768 bytes of threadgroup memory that a GPU has");
    }
    if (top + size + kGap > kThreadgroupArena) {
        machine->failed = true;
        if (machine->running) {
            stop();
        }
        return nullptr;
    }
    Range range;
    range.begin = reinterpret_cast<uintptr_t>(machine->threadgroup_arena) + top;
    range.end = range.begin + size;
    range.memory = Memory::threadgroup;
    range.index = index;
    range.flags = kEmuWritable;
    if (machine->launch->checked) {
        range.watch();
    }
    top += size + kGap;
    machine->variables[key] = machine->ranges.size();
    machine->ranges.push_back(std::move(range));
    machine->last = nullptr;
    return reinterpret_cast<void*>(machine->ranges.back().begin);
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
    // All ones is a NaN in every format: a value that nobody wrote is seen in the result, too.
    memset(machine->threadgroup_arena, 0xff, machine->threadgroup_top);
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

void order_threads(std::vector<unsigned>& order, size_t count) {
    order.resize(count);
    for (size_t i = 0; i < count; i++) {
        order[i] = unsigned(machine->launch->order == 1 ? count - 1 - i : i);
    }
}

void shuffle(std::vector<unsigned>& order) {
    for (size_t i = order.size(); i > 1; i--) {
        std::swap(order[i - 1], order[machine->next_random() % i]);
    }
}

void run_group() {
    std::vector<unsigned> order;
    order_threads(order, machine->fibers.size());
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
    std::vector<unsigned> order;
    order_threads(order, size_t{groups[0]} * groups[1] * groups[2]);
    if (launch.order == 2) {
        shuffle(order);
    }
    static const char keys[31] = {};
    for (const unsigned number : order) {
        start_group(number, groups);
        for (int i = 0; i < 31; i++) {
            if (launch.threadgroup_bytes[i]) {
                threadgroup_memory(&keys[i], i, launch.threadgroup_bytes[i], 16, {});
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

void on_access(const void* address, unsigned size, bool write, const void* code) {
    access(reinterpret_cast<uintptr_t>(address), size, write ? Access::write : Access::read, {nullptr, code});
}

void on_undefined(EmuKind kind, const EmuSite& site, bool fatal, const char* message) {
    report(kind, {&site, nullptr}, "%s, in %s", message, thread_name(machine->running->ids).c_str());
    if (fatal) {
        stop();
    }
}

}  // namespace emulator

using namespace emulator;

extern "C" {

const EmuIds* emu_ids() { return &machine->running->ids; }

void* emu_buffer(int index) {
    for (int i = 0; i < machine->launch->buffer_count; i++) {
        if (machine->launch->buffers[i].index == index) {
            return machine->launch->buffers[i].data;
        }
    }
    return nullptr;
}

void* emu_threadgroup_buffer(int index) {
    for (const Range& range : machine->ranges) {
        if (range.memory == Memory::threadgroup && range.index == index) {
            return reinterpret_cast<void*>(range.begin);
        }
    }
    return nullptr;
}

void* emu_threadgroup_variable(const char* key, unsigned size, unsigned alignment) {
    return threadgroup_memory(key, -1, size, alignment, {nullptr, __builtin_return_address(0)});
}

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

void emu_atomic(const void* address, unsigned size, int modifies, const EmuSite* site) {
    if (machine->launch->checked) {
        access(reinterpret_cast<uintptr_t>(address), size, modifies ? Access::atomic_write : Access::atomic_read,
               {site, nullptr});
    }
}

void emu_register_constant(int index, void* value, unsigned size, const char* name) {
    constants().push_back({index, value, size, name, false});
}

bool emu_constant_is_set(const void* value) {
    for (const Constant& constant : constants()) {
        if (constant.value == value) {
            return constant.set;
        }
    }
    return false;
}

void emu_forget_constants() {
    for (Constant& constant : constants()) {
        memset(constant.value, 0, constant.size);
        constant.set = false;
    }
}

// How many constants of that index took the value; -1 where one has another size.
int emu_set_constant(int index, const void* value, unsigned size) {
    int count = 0;
    for (Constant& constant : constants()) {
        if (constant.index == index) {
            if (constant.size != size) {
                return -1;
            }
            memcpy(constant.value, value, size);
            constant.set = true;
            count++;
        }
    }
    return count;
}

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
    void* stacks = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    std::vector<char> arena(kThreadgroupArena + 256);
    if (stacks != MAP_FAILED) {
        here.stacks = static_cast<char*>(stacks);
        const uintptr_t start = reinterpret_cast<uintptr_t>(arena.data());
        here.threadgroup_arena = arena.data() + (256 - start % 256);
        memset(here.threadgroup_arena, 0xff, kThreadgroupArena);
        run(*launch);
        munmap(stacks, bytes);
    }
    launch->threadgroup_bytes_used = here.threadgroup_used;
    machine = nullptr;
    return stacks == MAP_FAILED ? -1 : here.failed ? 1 : 0;
}

}  // extern "C"
