// What compiled kernels, the runtime and the Python side know of each other. No system header: kernels are compiled
// without any.
#pragma once

extern "C" {

// A place in a .metal file that has to be reached together: a barrier or a simdgroup function.
struct EmuSite {
    const char* file;
    int line, column;
    const char* what;
};

// Where a thread stands. The sizes of the last threadgroup of a grid may be smaller than `full_group_size`.
struct EmuIds {
    unsigned thread_in_grid[3], group_in_grid[3], thread_in_group[3];
    unsigned group_size[3], full_group_size[3], grid[3], groups[3];
    unsigned thread_index, lane, simdgroup, simdgroups, full_simdgroups;
};

// One value of each lane, 32 bytes apart, and which lanes took part.
struct EmuLanes {
    const char* values;
    unsigned active, lane;
};

const EmuIds* emu_ids();
void* emu_buffer(int index);
void* emu_threadgroup_buffer(int index);
void emu_declare(const char* kernel, unsigned size);
void emu_enter(const char* kernel);
void* emu_threadgroup_variable(const char* key, unsigned size, unsigned alignment);
void emu_exchange(const void* value, unsigned size, const EmuSite* site, EmuLanes* lanes);
void emu_inactive_lane(const EmuSite* site, unsigned lane);
void emu_simdgroup_barrier(int flags, const EmuSite* site);
void emu_threadgroup_barrier(int flags, const EmuSite* site);
void emu_atomic(const void* address, unsigned size, int modifies, const EmuSite* site);
void emu_register_constant(int index, void* value, unsigned size, const char* name);
bool emu_constant_is_set(const void* value);

constexpr int kEmuDevice = 1, kEmuThreadgroup = 2;  // mem_flags

enum EmuBufferFlags { kEmuWritable = 1, kEmuInitialised = 2, kEmuComplete = 4, kEmuAlias = 8 };

struct EmuBuffer {
    void* data;
    unsigned long long size;
    int index, flags;
    unsigned element_size;
};

enum EmuKind {
    kEmuOutOfBounds,
    kEmuWriteToInput,
    kEmuNeverWritten,
    kEmuRace,
    kEmuUninitialised,
    kEmuDivergence,
    kEmuThreadgroupMemory,
    kEmuUndefined,
    kEmuNotSet,
    kEmuStuck,
};

struct EmuReport {
    int kind, line;
    unsigned long long code;  // offset in the library, where file is empty
    unsigned long long other;  // the same of what a race is with
    char file[256], message[400];
};

constexpr int kEmuReports = 32;

struct EmuLaunch {
    void (*kernel)();
    const EmuBuffer* buffers;
    int buffer_count;
    unsigned grid[3], group[3];
    unsigned threadgroup_bytes[31];
    int order;  // 0 forward, 1 reverse, 2 shuffled by seed
    unsigned long long seed;
    int checked, partial_simdgroups, seconds;
    int report_count;
    EmuReport reports[kEmuReports];
    unsigned long long threadgroup_bytes_used;
};

void emu_forget_constants();
int emu_set_constant(int index, const void* value, unsigned size);
int emu_launch(EmuLaunch* launch);
}
