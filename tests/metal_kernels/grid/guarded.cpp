#include "guarded.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

namespace grid {

namespace {

std::size_t page() {
    static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return size;
}

}  // namespace

glasschat::cpu::Buffer guarded(std::size_t size, std::size_t alignment) {
    const std::size_t pages = (size + page() - 1) / page() * page(), mapped = pages + 2 * page();
    void* raw = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) {
        throw std::bad_alloc();
    }
    auto* first = static_cast<uint8_t*>(raw);
    uint8_t* end = first + page() + pages;
    if (mprotect(first, page(), PROT_NONE) || mprotect(end, page(), PROT_NONE)) {
        throw std::bad_alloc();
    }
    return glasschat::cpu::Buffer(end - (size + alignment - 1) / alignment * alignment, {mapped});
}

}  // namespace grid

// In the place of those of cpu/buffer.cpp.
namespace glasschat::cpu {

void FreeBuffer::operator()(uint8_t* start) const {
    const auto place = reinterpret_cast<std::uintptr_t>(start), page = static_cast<std::uintptr_t>(grid::page());
    const std::uintptr_t end = (place + mapped - 2 * page) / page * page;
    munmap(reinterpret_cast<void*>(end + page - mapped), mapped);
}

Buffer allocate(std::size_t size) {
    return grid::guarded(size, 64);
}

}  // namespace glasschat::cpu
