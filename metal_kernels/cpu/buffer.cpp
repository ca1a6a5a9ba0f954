#include "cpu/buffer.h"

#include <sys/mman.h>

#include <new>

namespace glasschat::cpu {

namespace {
constexpr std::size_t kHugePage = std::size_t{2} << 20;
}

void FreeBuffer::operator()(uint8_t* start) const {
    munmap(start, mapped);
}

Buffer allocate(std::size_t size) {
    // Whole huge pages for what is large; the padding of what is small would waste more than it gains.
    const std::size_t unit = size >= kHugePage ? kHugePage : 4096;
    const std::size_t mapped = (size + unit - 1) / unit * unit;
    // With room to move the start to a boundary; what is left over on both sides goes back.
    const std::size_t slack = unit == kHugePage ? kHugePage : 0;
    void* raw = mmap(nullptr, mapped + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) {
        throw std::bad_alloc();
    }
    auto* start = static_cast<uint8_t*>(raw);
    if (slack) {
        const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(start) % kHugePage) % kHugePage;
        if (before) {
            munmap(start, before);
        }
        if (slack > before) {
            munmap(start + before + mapped, slack - before);
        }
        start += before;
#ifdef MADV_HUGEPAGE
        madvise(start, mapped, MADV_HUGEPAGE);
#endif
    }
    return Buffer(start, FreeBuffer{mapped});
}

}  // namespace glasschat::cpu
