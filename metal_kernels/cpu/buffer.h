// Memory for weights: aligned to cache lines, on huge pages where the system gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace glasschat::cpu {

struct FreeBuffer {
    std::size_t mapped = 0;
    void operator()(uint8_t* start) const;
};

using Buffer = std::unique_ptr<uint8_t[], FreeBuffer>;

// Zeros. Throws std::bad_alloc. MLX's own buffers on a CPU begin 8 bytes after an allocation, so every wide load from
// them touches two cache lines; and they lie in small pages, which costs a tenth of the bandwidth.
Buffer allocate(std::size_t size);

}  // namespace glasschat::cpu
