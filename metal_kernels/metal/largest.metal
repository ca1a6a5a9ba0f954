// The ids of each row's `count` largest numbers, the largest first and of equal ones the lower id: top-k sampling's
// candidates. A threadgroup has one row and reads it four times from memory (L2, mostly): three passes of radix
// selection narrow down the count-th largest, eleven bits at a time (Alabi et al. 2012, "Fast k-selection algorithms
// for graphics processing units"), and a last one gathers what is not below. Only these are sorted. If more equal
// numbers stand at the border than there is room for, three more passes select the lowest ids among them in the same
// way.
#include "common.h"

constant constexpr int kThreads = 1024;
constant constexpr int kSimdgroups = kThreads / kLanes;
constant constexpr int kMost = 1024;  // the largest count
constant constexpr int kBins = 2048;

constant int kSorted [[function_constant(0)]];  // count rounded up to a power of two

// An unsigned number in the same order as the float: the sign's bit is turned around, and below zero all others too.
// The two zeros are equal.
inline uint ordered(float number) {
    uint bits = as_type<uint>(number);
    bits = bits == 0x80000000u ? 0u : bits;
    return bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}

struct Found {
    uint bin;
    uint above;  // numbers in higher bins
    uint inside;
};

// The bin in which the `wanted`-th number from above lies. All threads call it, with the bins complete; they hold
// nothing afterwards.
inline Found find_bin(
    threadgroup atomic_uint* bins,
    threadgroup uint* sums,
    threadgroup uint* found,
    uint wanted,
    uint thread_index,
    uint simd,
    uint lane) {
    // A thread has two bins, the first thread the two highest.
    const uint high = kBins - 1 - 2 * thread_index, low = high - 1;
    const uint in_high = atomic_load_explicit(bins + high, memory_order_relaxed);
    const uint in_low = atomic_load_explicit(bins + low, memory_order_relaxed);
    atomic_store_explicit(bins + high, 0u, memory_order_relaxed);
    atomic_store_explicit(bins + low, 0u, memory_order_relaxed);
    const uint before = simd_prefix_exclusive_sum(in_high + in_low);
    if (lane == kLanes - 1) {
        sums[simd] = before + in_high + in_low;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);  // the simdgroups' sums are there, and all bins have been read
    const uint above = before + simd_sum(lane < simd ? sums[lane] : 0u);
    if (above < wanted && wanted <= above + in_high + in_low) {
        const bool in_first = wanted <= above + in_high;
        found[0] = in_first ? high : low;
        found[1] = in_first ? above : above + in_high;
        found[2] = in_first ? in_high : in_low;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);  // it is found
    return {found[0], found[1], found[2]};
}

// The `wanted`-th largest of the numbers that `number` gives for each place of the row and `among` lets in; `wanted`
// becomes how many of those equal to it are among the wanted ones, and `equal` how many there are.
template <typename Source>
inline uint nth_largest(
    Source source,
    int width,
    thread uint& wanted,
    thread uint& equal,
    threadgroup atomic_uint* bins,
    threadgroup uint* sums,
    threadgroup uint* found,
    uint thread_index,
    uint simd,
    uint lane) {
    uint prefix = 0;
    for (int pass = 0; pass < 3; pass++) {
        const uint bits = pass < 2 ? 11 : 10, shift = pass == 0 ? 21 : pass == 1 ? 10 : 0;
        for (int i = int(thread_index); i < width; i += kThreads) {
            uint number;
            if (source.get(i, number) && (pass == 0 || number >> (shift + bits) == prefix)) {
                const uint bin = (number >> shift) & ((1u << bits) - 1);
                atomic_fetch_add_explicit(bins + bin, 1u, memory_order_relaxed);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);  // the bins are complete
        const Found at = find_bin(bins, sums, found, wanted, thread_index, simd, lane);
        prefix = (prefix << bits) | at.bin;
        wanted -= at.above;
        equal = at.inside;
    }
    return prefix;
}

struct Numbers {
    device const float* x;
    bool get(int i, thread uint& number) const {
        number = ordered(x[i]);
        return true;
    }
};

// Ids of the numbers that equal one, so that the lowest id is the largest.
struct EqualIds {
    device const float* x;
    uint equal;
    bool get(int i, thread uint& number) const {
        number = ~uint(i);
        return ordered(x[i]) == equal;
    }
};

[[kernel, max_total_threads_per_threadgroup(1024)]] void largest_f32(
    device const float* rows [[buffer(0)]],
    device uint* ids [[buffer(1)]],
    constant LargestParams& p [[buffer(2)]],
    uint row [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint simd [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
    threadgroup atomic_uint bins[kBins];
    threadgroup uint sums[kSimdgroups];
    threadgroup uint found[3];
    threadgroup atomic_uint taken;
    threadgroup uint kept[kMost];
    threadgroup uint kept_ids[kMost];
    device const float* x = rows + ulong(row) * p.width;

    for (uint i = thread_index; i < kBins; i += kThreads) {
        atomic_store_explicit(bins + i, 0u, memory_order_relaxed);
    }
    if (thread_index == 0) {
        atomic_store_explicit(&taken, 0u, memory_order_relaxed);
    }
    // What is past the count sorts last.
    kept[thread_index] = 0, kept_ids[thread_index] = 0xffffffffu;
    threadgroup_barrier(mem_flags::mem_threadgroup);  // all of that is set

    uint wanted = uint(p.count), equal = 0;
    const uint border = nth_largest(Numbers{x}, p.width, wanted, equal, bins, sums, found, thread_index, simd, lane);
    uint lowest = 0;
    if (equal > wanted) {  // the same for all threads
        lowest = nth_largest(EqualIds{x, border}, p.width, wanted, equal, bins, sums, found, thread_index, simd, lane);
    }
    for (int i = int(thread_index); i < p.width; i += kThreads) {
        const uint number = ordered(x[i]);
        if (number > border || (number == border && ~uint(i) >= lowest)) {
            const uint place = atomic_fetch_add_explicit(&taken, 1u, memory_order_relaxed);
            kept[place] = number, kept_ids[place] = uint(i);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);  // all are gathered, in any order

    // Bitonic sort (Batcher 1968), a pair to a thread.
    for (uint size = 2; size <= uint(kSorted); size *= 2) {
        for (uint apart = size / 2; apart > 0; apart /= 2) {
            const uint first = thread_index / apart * 2 * apart + thread_index % apart, second = first + apart;
            if (second < uint(kSorted)) {
                const uint a = kept[first], b = kept[second], a_id = kept_ids[first], b_id = kept_ids[second];
                const bool in_order = a > b || (a == b && a_id < b_id);
                if (in_order != ((first & size) == 0)) {
                    kept[first] = b, kept[second] = a, kept_ids[first] = b_id, kept_ids[second] = a_id;
                }
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);  // before the next pairs
        }
    }
    if (int(thread_index) < p.count) {
        ids[ulong(row) * p.count + thread_index] = kept_ids[thread_index];
    }
}
