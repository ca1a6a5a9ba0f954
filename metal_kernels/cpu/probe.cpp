#include "cpu/probe.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>

#include "cpu/buffer.h"
#include "cpu/dispatch.h"
#include "cpu/pool.h"

namespace glasschat::cpu {

namespace {

constexpr int kTries = 7;
constexpr int64_t kRounds = 1 << 18;
constexpr int64_t kChunk = 1 << 20;

std::atomic<float> kept{0};  // makes every result matter

const ProbeKernels& kernels() {
    return GLASSCHAT_DOTS_IN_FORCE(Probe);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class Work>
double least_seconds(int tries, const Work& work) {
    double least = 1e9;
    for (int i = 0; i < tries; i++) {
        const auto start = std::chrono::steady_clock::now();
        work();
        least = std::min(least, seconds_since(start));
    }
    return least;
}

double peak(float (*kernel)(int64_t), int operations) {
    // A chunk for each thread: they take the same time.
    const int count = threads();
    const double seconds = least_seconds(kTries, [&] {
        parallel_for(count, [&](int64_t) { kept.store(kernel(kRounds), std::memory_order_relaxed); });
    });
    return double{kRounds} * operations * count / seconds;
}

}  // namespace

double read_bandwidth(int64_t bytes, int passes) {
    if (bytes < kChunk || passes < 1) {
        throw std::invalid_argument("a bandwidth needs a megabyte to read, and a pass");
    }
    const ProbeKernels& kernel = kernels();
    const Buffer buffer = allocate(bytes);
    // Pages that nobody has written to are all the same one.
    std::fill_n(buffer.get(), bytes, uint8_t{1});
    const int64_t chunks = bytes / kChunk;
    const double seconds = least_seconds(passes, [&] {
        parallel_for(chunks, [&](int64_t chunk) {
            kept.store(kernel.read(buffer.get() + chunk * kChunk, kChunk), std::memory_order_relaxed);
        });
    });
    return static_cast<double>(chunks * kChunk) / seconds;
}

double float_peak() {
    return peak(kernels().multiply, kernels().float_operations);
}

double bf16_peak() {
#if defined(__x86_64__)
    if (level() >= Level::avx512bf16) {
        const Bf16Probe& probe = level() >= Level::amx ? kAmxBf16Probe : kAvx512Bf16Probe;
        return peak(probe.multiply, probe.operations);
    }
#endif
    return float_peak();
}

double int8_peak() {
    return peak(kernels().multiply_int8, kernels().int8_operations);
}

}  // namespace glasschat::cpu
