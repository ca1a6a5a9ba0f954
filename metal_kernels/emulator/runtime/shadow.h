// What is remembered of every written byte: who touched it last, and between which barriers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulator {

constexpr uint32_t kLargestGroup = 1024, kSimdgroup = 32;

// How far memory is ordered: the barriers for this memory that the threadgroup and the simdgroup have passed.
struct Epochs {
    uint32_t group = 0, simdgroup = 0;
};

// One access: the thread (its threadgroup's number from 1, times 1024, plus its index), when, and the place in the code.
struct Mark {
    uint32_t who = 0;
    Epochs when;
    uint32_t code = 0;
    uint32_t group() const { return who / kLargestGroup; }
    uint32_t thread() const { return who % kLargestGroup; }
    uint32_t simdgroup() const { return thread() / kSimdgroup; }
};

// Accesses that do not race with each other, of which four are kept, so that whoever does race finds one if there is
// one: the last, and before it one of the same simdgroup, of another simdgroup and of another threadgroup.
struct Recent {
    Mark last, beside, elsewhere, in_other_group;

    void note(const Mark& now) {
        if (last.who && last.who != now.who) {
            if (last.group() != now.group()) {
                in_other_group = last;
            } else if (last.simdgroup() != now.simdgroup()) {
                elsewhere = last;
            } else {
                beside = last;
            }
        }
        last = now;
    }

    template <class Condition>
    const Mark* find(Condition holds) const {
        for (const Mark* mark : {&last, &beside, &elsewhere, &in_other_group}) {
            if (holds(*mark)) {
                return mark;
            }
        }
        return nullptr;
    }
};

// The last accesses to one granule.
struct Cell {
    Mark write;
    Recent reads;
};

// The same of atomic operations, of which those that change the granule count as `writes`.
struct AtomicCell {
    Recent writes, loads;
};

enum class Memory { device, threadgroup };

// A piece of memory that kernels may touch, with its cells. A cell stands for four bytes until an access is smaller
// than that.
struct Range {
    uintptr_t begin = 0, end = 0;
    Memory memory = Memory::device;
    int index = 0;  // of the buffer or of the threadgroup argument; -1 for a threadgroup variable
    int flags = 0;
    unsigned element_size = 1;
    unsigned shift = 2;
    std::vector<Cell> cells;
    std::vector<AtomicCell> atomics;  // none before the first atomic operation

    bool holds(uintptr_t address) const { return address >= begin && address < end; }
    void watch() { cells.resize(((end - begin) >> shift) + 1); }

    // The first cell of `size` bytes at `address` within the range.
    size_t first(uintptr_t address, unsigned size) {
        const uintptr_t offset = address - begin;
        while ((offset | size) & ((uintptr_t{1} << shift) - 1)) {
            refine(cells);
            refine(atomics);
            --shift;
        }
        return offset >> shift;
    }

    bool is_written(size_t cell) const { return cells[cell].write.who || (!atomics.empty() && atomics[cell].writes.last.who); }

   private:
    template <class T>
    static void refine(std::vector<T>& all) {
        std::vector<T> finer;
        finer.reserve(all.size() * 2);
        for (const T& each : all) {
            finer.push_back(each);
            finer.push_back(each);
        }
        all = std::move(finer);
    }
};

}  // namespace emulator
