// What the parts of the runtime share: the state of a launch, and how it reports.
#pragma once

#include "fiber.h"  // first: it may choose the standard that <ucontext.h> follows
#include "interface.h"
#include "shadow.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace emulator {

constexpr size_t kStack = 128 * 1024;
constexpr size_t kThreadgroupLimit = 32 * 1024;   // of every Apple GPU so far
// What lies around each threadgroup variable and belongs to none: a thousand times what all of them may have. It is
// reserved, and takes no memory; the arena has room for more variables than the limit allows.
constexpr size_t kGap = 1024 * kThreadgroupLimit;
constexpr size_t kThreadgroupArena = (kThreadgroupLimit / 16 + 100) * kGap;
constexpr size_t kNear = size_t{1} << 32;  // how far from a piece of memory an access still is a miss of it
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
    size_t threadgroup_top = kGap, threadgroup_used = 0;
    const char* entered = nullptr;  // the kernel, once a thread of it has begun
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

// The launch that runs; none between launches.
extern Machine* machine;

struct Place {
    const EmuSite* site = nullptr;
    const void* code = nullptr;

    uint64_t offset() const { return code ? reinterpret_cast<uintptr_t>(code) - machine->image : 0; }
};

// One report for each kind and line: the first. Returns it where it is new.
__attribute__((format(printf, 3, 4))) EmuReport* report(EmuKind kind, Place place, const char* format, ...);

bool late();
void report_late(const Fiber& fiber, Place place);

std::string group_name(const EmuIds& ids);
std::string thread_name(const EmuIds& ids);

// Lets others run until this thread may go on.
void wait();

// Ends the launch from within a thread.
[[noreturn]] void stop();

// Runs the threads of the threadgroup that was made ready.
void run_group();

inline Simdgroup& simdgroup_of(const Fiber& fiber) { return machine->simdgroups[fiber.ids.simdgroup]; }

std::vector<Constant>& constants();

// Threads in the order that the launch asks for; `shuffle` draws a new one.
std::vector<unsigned> in_order(size_t count);
void shuffle(std::vector<unsigned>& order);

// Memory of the running threadgroup, the same for each key; null where there is no room.
void* threadgroup_memory(const char* key, int index, size_t size, size_t alignment);

// So many bytes more that each threadgroup has.
void count_threadgroup_memory(size_t size, Place place);

// All ones, which are a NaN in every format: a value that nobody wrote is seen in the result, too.
void forget(const Range& range);

void report_never_written(const Range& range);

}  // namespace emulator
