// As much of Metal as MLX's headers and our host code name, in the place of Apple's own: it writes down what it is told.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace NS {

using UInteger = std::uintptr_t;

template <typename T>
class SharedPtr {
  public:
    T* get() const { return held; }
    T* held = nullptr;
};

class AutoreleasePool {};

}  // namespace NS

namespace MTL {

struct Size {
    Size() = default;
    Size(NS::UInteger w, NS::UInteger h, NS::UInteger d) : width(w), height(h), depth(d) {}
    NS::UInteger width = 0, height = 0, depth = 0;
};

enum class DataType { DataTypeInt = 29, DataTypeBool = 53 };

class Allocation {};
class Resource : public Allocation {};
class Buffer : public Resource {};
class Device {};
class CommandQueue {};
class CommandBuffer {};
class ResidencySet {};
class Fence {};
class Function {};
class LinkedFunctions {};

class Library {
  public:
    std::string path;  // of one that was loaded
    std::string text;  // of one that was compiled
};

class ComputePipelineState {
  public:
    NS::UInteger maxTotalThreadsPerThreadgroup() const { return most_threads; }
    NS::UInteger most_threads = 1024;
    const Library* library = nullptr;
    std::string kernel;
};

class ComputeCommandEncoder {
  public:
    void setComputePipelineState(const ComputePipelineState* state) { pipeline = state; }
    void setBytes(const void* bytes, NS::UInteger length, NS::UInteger index) {
        const auto* first = static_cast<const char*>(bytes);
        told[index] = std::string(first, first + length);
    }
    void setThreadgroupMemoryLength(NS::UInteger, NS::UInteger) {}

    const ComputePipelineState* pipeline = nullptr;
    std::map<NS::UInteger, std::string> told;  // bytes, by index
};

}  // namespace MTL
