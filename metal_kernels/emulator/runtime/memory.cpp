// What threads do to memory.
#include "machine.h"

#include "checks.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>

namespace emulator {
namespace {

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
    if (nearest && distance < kNear) {
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
        AtomicCell* atomics = range.atomics.empty() ? nullptr : &range.atomics[first + (done >> range.shift)];
        if (!write && !(range.flags & kEmuInitialised) && !written(cell.write) &&
            !(atomics && written(atomics->writes.last))) {
            report(kEmuUninitialised, place, "read of %s, which nothing has written, by %s",
                   element_of(range, here).c_str(), thread_name(fiber.ids).c_str());
        }
        const Mark* other = nullptr;
        if (races(cell.write)) {
            report_race(range, here, cell.write, write ? "two writes" : "a write and a read", place);
        } else if (atomics && !atomic &&
                   ((other = atomics->writes.find(races)) || (write && (other = atomics->loads.find(races))))) {
            report_race(range, here, *other, "an atomic operation and a plain one", place);
        } else if (write && (other = cell.reads.find(races))) {
            report_race(range, here, *other, "a read and a write", place);
        }
        if (atomic) {
            (write ? atomics->writes : atomics->loads).note(now);
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

// The bytes of threadgroup variables that each kernel declares.
std::map<const char*, size_t>& declared() {
    static std::map<const char*, size_t> all;
    return all;
}

}  // namespace

std::vector<Constant>& constants() {
    static std::vector<Constant> all;
    return all;
}

void forget(const Range& range) { memset(reinterpret_cast<void*>(range.begin), 0xff, range.end - range.begin); }

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

void count_threadgroup_memory(size_t size, Place place) {
    machine->threadgroup_used += size;
    if (machine->threadgroup_used > kThreadgroupLimit) {
        report(kEmuThreadgroupMemory, place, "the threadgroup needs more than the 32768 bytes of threadgroup memory that a GPU has");
    }
}

void* threadgroup_memory(const char* key, int index, size_t size, size_t alignment) {
    const auto found = machine->variables.find(key);
    if (found != machine->variables.end()) {
        return reinterpret_cast<void*>(machine->ranges[found->second].begin);
    }
    size_t& top = machine->threadgroup_top;
    top = (top + alignment - 1) / alignment * alignment;
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
    forget(range);
    top += size + kGap;
    machine->variables[key] = machine->ranges.size();
    machine->ranges.push_back(std::move(range));
    machine->last = nullptr;
    return reinterpret_cast<void*>(machine->ranges.back().begin);
}

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
    return threadgroup_memory(key, -1, size, alignment);
}

void emu_declare(const char* kernel, unsigned size) { declared()[kernel] += (size + 15) / 16 * 16; }

void emu_enter(const char* kernel) {
    if (machine->entered != kernel) {
        machine->entered = kernel;
        count_threadgroup_memory(declared()[kernel], {nullptr, __builtin_return_address(0)});
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

}  // extern "C"
