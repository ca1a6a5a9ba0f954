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

// The last accesses to one granule. Of reads four are kept, so that whoever writes finds another reader if there was
// one: the last, and before it one of the same simdgroup, of another simdgroup and of another threadgroup.
struct Cell {
    Mark write, atomic, read, read_beside, read_elsewhere, read_in_other_group;

    void note_read(const Mark& now) {
        if (read.who && read.who != now.who) {
            if (read.group() != now.group()) {
                read_in_other_group = read;
            } else if (read.simdgroup() != now.simdgroup()) {
                read_elsewhere = read;
            } else {
                read_beside = read;
            }
        }
        read = now;
    }
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

    bool holds(uintptr_t address) const { return address >= begin && address < end; }
    void watch() { cells.resize(((end - begin) >> shift) + 1); }

    // The cells of `size` bytes at `address` within the range.
    Cell* first(uintptr_t address, unsigned size) {
        const uintptr_t offset = address - begin;
        while ((offset | size) & ((uintptr_t{1} << shift) - 1)) {
            refine();
        }
        return &cells[offset >> shift];
    }

   private:
    void refine() {
        std::vector<Cell> finer;
        finer.reserve(cells.size() * 2);
        for (const Cell& cell : cells) {
            finer.push_back(cell);
            finer.push_back(cell);
        }
        cells = std::move(finer);
        --shift;
    }
};

}  // namespace emulator
