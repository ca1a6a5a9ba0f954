#include <array>
#include <memory>
#include <stdexcept>
#include <string>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/device.h"
#include "mlx/utils.h"
#include "primitives/arrays.h"
#include "primitives/gpu.h"

#ifdef _METAL_
#include "mlx/backend/metal/device.h"
#include "mlx/backend/metal/metal.h"
#endif

namespace glasschat::gpu {

namespace {

Runner& runner() {
    static auto* const set = new Runner;  // until the process ends: what it calls may be gone before
    return *set;
}

metal::Place& kernels() {
    static metal::Place place;
    return place;
}

// Of a kernel, as for want of registers; not of memory.
struct NotLaunched : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void encode_for_runner(const mx::Stream& stream, const metal::Launch& launch, const std::vector<Bound>& buffers) {
    mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream);
    std::vector<Memory> memory;
    for (const Bound& buffer : buffers) {
        mx::array array = buffer.array;
        buffer.written ? encoder.set_output_array(array) : encoder.set_input_array(array);
        const auto [lowest, count] = extent(array);
        const int64_t item = array.itemsize();
        uint8_t* first = const_cast<uint8_t*>(array.data<uint8_t>()) + lowest * item;
        memory.push_back({first, static_cast<size_t>(count * item), buffer.written});
    }
    encoder.dispatch([run = runner(), launch, memory] { run(launch, memory); });
}

}  // namespace

void run_by(Runner new_runner) {
    runner() = std::move(new_runner);
}

void kernels_in(metal::Place place) {
    kernels() = std::move(place);
}

#ifdef _METAL_

namespace {

// The library of compiled kernels, loaded once a process; null where there is none. One that this system does not take,
// such as one for a newer system, is as good as none.
MTL::Library* prebuilt(mx::metal::Device& device) {
    std::string& path = kernels().library;
    if (path.empty()) {
        return nullptr;
    }
    try {
        return device.get_library("glasschat", path);
    } catch (const std::exception&) {
        path.clear();
        return nullptr;
    }
}

// A kernel with its function constants, made once a process.
MTL::ComputePipelineState* pipeline(const mx::Stream& stream, metal::Type type, const metal::Launch& launch) {
    mx::metal::Device& device = mx::metal::device(stream.device);
    MTL::Library* library = prebuilt(device);
    if (!library) {
        const auto text = [&] { return metal::source(kernels().directory, launch.file, type); };
        library = device.get_library("glasschat_" + launch.file + "_" + metal::name(type), text);
    }
    std::string name = launch.kernel;
    mx::metal::MTLFCList constants;
    // Metal reads them from where they are: a bool is one byte, and `launch` outlives the call.
    const auto flags = std::make_unique<bool[]>(launch.constants.size());
    for (size_t i = 0; i < launch.constants.size(); i++) {
        const metal::Constant& constant = launch.constants[i];
        // As an identifier, which it is to Metal.
        name += "_c" + std::to_string(constant.index) + "_" + std::to_string(constant.value);
        flags[i] = constant.value != 0;
        const void* value = constant.is_bool ? static_cast<const void*>(&flags[i]) : &constant.value;
        const MTL::DataType kind = constant.is_bool ? MTL::DataType::DataTypeBool : MTL::DataType::DataTypeInt;
        constants.emplace_back(value, kind, static_cast<NS::UInteger>(constant.index));
    }
    return device.get_kernel(launch.kernel, library, name, constants);
}

MTL::ComputePipelineState* ready_pipeline(const mx::Stream& stream, metal::Type type, const metal::Launch& launch) {
    try {
        return pipeline(stream, type, launch);
    } catch (const std::exception& error) {
        throw NotLaunched(error.what());
    }
}

MTL::Size size(const std::array<uint32_t, 3>& extent) {
    return MTL::Size(extent[0], extent[1], extent[2]);
}

}  // namespace

std::string library_in_use() {
    if (runner()) {
        return {};
    }
    return prebuilt(mx::metal::device(mx::Device::gpu)) ? kernels().library : std::string();
}

bool in_use() {
    return runner() || (mx::metal::is_available() && mx::default_device() == mx::Device(mx::Device::gpu));
}

void encode(const mx::Stream& stream, metal::Type type, const metal::Launch& launch,
            const std::vector<Bound>& buffers) {
    if (runner()) {
        return encode_for_runner(stream, launch, buffers);
    }
    MTL::ComputePipelineState* kernel = ready_pipeline(stream, type, launch);
    const uint32_t threads = launch.threads[0] * launch.threads[1] * launch.threads[2];
    if (kernel->maxTotalThreadsPerThreadgroup() < threads) {
        throw NotLaunched(launch.kernel + " needs threadgroups of " + std::to_string(threads) +
                                 " threads, and this GPU takes " +
                                 std::to_string(kernel->maxTotalThreadsPerThreadgroup()));
    }
    mx::metal::CommandEncoder& encoder = mx::metal::get_command_encoder(stream);
    encoder.set_compute_pipeline_state(kernel);
    int index = 0;
    for (const Bound& buffer : buffers) {
        if (buffer.written) {
            mx::array written = buffer.array;
            encoder.set_output_array(written, index++);
        } else {
            const int64_t lowest = extent(buffer.array).lowest * static_cast<int64_t>(buffer.array.itemsize());
            encoder.set_input_array(buffer.array, index++, lowest);
        }
    }
    encoder.set_bytes(launch.params.data(), static_cast<int>(launch.params.size()), index);
    encoder.dispatch_threadgroups(size(launch.groups), size(launch.threads));
}

void keep(const mx::Stream& stream, std::vector<mx::array> arrays) {
    if (runner()) {
        return mx::cpu::get_command_encoder(stream).add_temporaries(std::move(arrays));
    }
    mx::metal::get_command_encoder(stream).add_temporaries(std::move(arrays));
}

#else

std::string library_in_use() {
    return {};
}

bool in_use() {
    return static_cast<bool>(runner());
}

void encode(const mx::Stream& stream, metal::Type, const metal::Launch& launch, const std::vector<Bound>& buffers) {
    if (!runner()) {
        throw NotLaunched(launch.kernel + " needs Metal, which MLX does not have here");
    }
    encode_for_runner(stream, launch, buffers);
}

void keep(const mx::Stream& stream, std::vector<mx::array> arrays) {
    mx::cpu::get_command_encoder(stream).add_temporaries(std::move(arrays));
}

#endif

mx::Stream stream() {
    return runner() ? cpu_stream() : mx::default_stream(mx::Device(mx::Device::gpu));
}

metal::Type type_of(mx::Dtype type, const char* what) {
    const cpu::Float found = float_type(type, what);
    return found == cpu::Float::f32   ? metal::Type::f32
           : found == cpu::Float::f16 ? metal::Type::f16
                                      : metal::Type::bf16;
}

Launches::Launches(mx::Stream stream, const char* name, metal::Type type, std::vector<Step> steps,
                   std::vector<Between> between)
    : Primitive(stream), name_(name), type_(type), steps_(std::move(steps)), between_(std::move(between)) {}

void Launches::eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
    try {
        launch(inputs, outputs);
    } catch (const NotLaunched& error) {
        throw std::runtime_error("Metal kernel " + std::string(name_) + ": " + error.what());
    }
}

void Launches::launch(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
    for (mx::array& out : outputs) {
        out.set_data(mx::allocator::malloc(out.nbytes()));
    }
    if (outputs[0].size() > 0) {
        run(steps_, inputs, outputs);
    }
}

Extent extent(const mx::array& x) {
    int64_t lowest = 0, highest = 0;
    for (size_t axis = 0; axis < x.ndim(); axis++) {
        const int64_t last = (int64_t{x.shape(axis)} - 1) * x.strides(axis);
        (last < 0 ? lowest : highest) += last;
    }
    return {lowest, highest - lowest + 1};
}

bool Launches::has_even_rows(const mx::array& x) {
    int64_t expected = 1;
    for (int axis = static_cast<int>(x.ndim()) - 1; axis > 0; axis--) {
        if (x.shape(axis) != 1 && x.strides(axis) != expected) {
            return false;
        }
        expected *= x.shape(axis);
    }
    const int64_t stride = x.shape(0) == 1 ? expected : x.strides(0);
    return stride >= expected && stride % 4 == 0 && x.offset() % (4 * static_cast<int64_t>(x.itemsize())) == 0;
}

mx::array Launches::ready(const mx::array& x) {
    // A load of four words, the widest that there is.
    constexpr int kWidest = 16;
    if (x.flags().row_contiguous && x.offset() % kWidest == 0) {
        return x;
    }
    need(x.ndim() <= 4, "arrays with gaps have up to four dimensions");
    std::array<int, 4> shape{1, 1, 1, 1}, strides{};
    for (size_t axis = 0; axis < x.ndim(); axis++) {
        shape[4 - x.ndim() + axis] = x.shape(axis);
        strides[4 - x.ndim() + axis] = static_cast<int>(x.strides(axis));
    }
    const int first = static_cast<int>(-extent(x).lowest);
    mx::array whole(mx::allocator::malloc(x.nbytes()), x.shape(), x.dtype());
    encode(stream(), type_, metal::gather(static_cast<int>(x.itemsize()), shape, strides, first),
           {{x, false}, {whole, true}});
    keep(stream(), {whole});
    return whole;
}

void Launches::run(const std::vector<Step>& steps, std::vector<mx::array> inputs, std::vector<mx::array>& outputs,
                   size_t checked) {
    for (size_t i = checked; i < inputs.size(); i++) {
        inputs[i] = ready(inputs[i]);
    }
    std::vector<mx::array> between;
    for (const Between& each : between_) {
        int64_t bytes = each.type.size();
        for (const auto extent : each.shape) {
            bytes *= extent;
        }
        between.emplace_back(mx::allocator::malloc(bytes), each.shape, each.type);
    }
    for (const Step& step : steps) {
        run(step, inputs, outputs, between);
    }
    keep(stream(), std::move(between));
}

void Launches::run(const Step& step, const std::vector<mx::array>& inputs, const std::vector<mx::array>& outputs,
                   const std::vector<mx::array>& between) {
    std::vector<Bound> buffers;
    for (const Slot& slot : step.slots) {
        const bool is_between = slot.kind == Slot::left || slot.kind == Slot::between;
        const std::vector<mx::array>& from = slot.kind == Slot::output ? outputs : is_between ? between : inputs;
        buffers.push_back({from[slot.number], slot.kind != Slot::input && slot.kind != Slot::between});
    }
    encode(stream(), type_, step.launch, buffers);
}

}  // namespace glasschat::gpu
