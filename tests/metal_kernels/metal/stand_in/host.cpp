// gpu_encode.cpp as it is compiled for Metal, on a device and an encoder of our own in the place of MLX's: their class is
// MLX's, from its header. Says what is wrong and ends with 1, or ends with 0. Argument: the directory of the kernels.
#include <cstring>
#include <iostream>
#include <memory>
#include <stdexcept>

#include "mlx/allocator.h"
#include "mlx/backend/metal/device.h"
#include "mlx/ops.h"
#include "primitives/gpu.h"

namespace mx = mlx::core;
namespace gpu = glasschat::gpu;
namespace metal = glasschat::metal;

namespace {

struct Binding {
    const void* buffer;
    int64_t offset;
    bool written;
};

// What the device and the encoder were asked for.
struct Record {
    std::vector<std::string> loads, compiles;
    bool loading_fails = false;
    int kernels_made = 0;
    NS::UInteger most_threads = 1024;
    std::map<std::string, std::map<NS::UInteger, std::pair<MTL::DataType, int>>> constants;  // of each function made
    std::map<int, Binding> bound;
    int launches = 0;
    MTL::Size groups, threads;
    MTL::ComputeCommandEncoder encoder;
} record;

int failures = 0;

void expect(bool ok, const char* what, int line) {
    if (!ok) {
        std::cerr << "line " << line << ": not so: " << what << "\n";
        failures++;
    }
}

#define EXPECT(...) expect(__VA_ARGS__, #__VA_ARGS__, __LINE__)

mx::metal::Device& the_device() {
    // Nothing that is called looks at the device itself.
    alignas(mx::metal::Device) static std::byte room[sizeof(mx::metal::Device)];
    return *reinterpret_cast<mx::metal::Device*>(room);
}

mx::metal::CommandEncoder& the_encoder() {
    alignas(mx::metal::CommandEncoder) static std::byte room[sizeof(mx::metal::CommandEncoder)];
    return *reinterpret_cast<mx::metal::CommandEncoder*>(room);
}

}  // namespace

namespace mlx::core::metal {

Device& device(mlx::core::Device) {
    return the_device();
}

CommandEncoder& get_command_encoder(Stream) {
    return the_encoder();
}

MTL::Library* Device::get_library(const std::string& name, const std::string& path) {
    static std::map<std::string, MTL::Library> kept;
    if (const auto found = kept.find(name); found != kept.end()) {
        return &found->second;
    }
    record.loads.push_back(path);
    if (record.loading_fails) {
        throw std::runtime_error("this is for a newer system");
    }
    kept[name].path = path;
    return &kept[name];
}

MTL::Library* Device::get_library(const std::string& name, const CompileOptions& options,
                                  const std::function<std::string(void)>& builder) {
    static std::map<std::string, MTL::Library> kept;
    if (const auto found = kept.find(name); found != kept.end()) {
        return &found->second;
    }
    EXPECT(options.math_mode == MathMode::Safe);
    record.compiles.push_back(name);
    kept[name].text = builder();
    return &kept[name];
}

MTL::ComputePipelineState* Device::get_kernel(const std::string& base, MTL::Library* library, const std::string& name,
                                              const MTLFCList& constants, const std::vector<MTL::Function*>&) {
    static std::map<std::pair<MTL::Library*, std::string>, MTL::ComputePipelineState> kept;
    const auto [place, is_new] = kept.try_emplace({library, name});
    if (is_new) {
        record.kernels_made++;
        place->second.library = library;
        place->second.kernel = base;
        for (const auto& [value, type, index] : constants) {
            int number = 0;
            std::memcpy(&number, value, type == MTL::DataType::DataTypeBool ? 1 : 4);
            record.constants[name][index] = {type, number};
        }
    }
    place->second.most_threads = record.most_threads;
    return &place->second;
}

void CommandEncoder::set_input_array(const array& a, int index, int64_t offset) {
    record.bound[index] = {a.buffer().ptr(), a.offset() + offset, false};
}

void CommandEncoder::set_output_array(array& a, int index, int64_t offset) {
    record.bound[index] = {a.buffer().ptr(), a.offset() + offset, true};
}

void CommandEncoder::add_temporaries(std::vector<array>) {}

void CommandEncoder::dispatch_threadgroups(MTL::Size groups, MTL::Size threads) {
    record.launches++;
    record.groups = groups, record.threads = threads;
}

MTL::ComputeCommandEncoder* CommandEncoder::get_command_encoder() {
    return &record.encoder;
}

}  // namespace mlx::core::metal

namespace {

const mx::Stream kStream = mx::default_stream(mx::Device::cpu);

void encode(const metal::Launch& launch, const std::vector<gpu::Bound>& buffers) {
    record.bound.clear();
    record.encoder.told.clear();
    gpu::encode(kStream, metal::Type::f16, launch, buffers);
}

mx::array rows(int count, int width) {
    mx::array made = mx::zeros({count, width}, mx::float16, mx::Device::cpu);
    made.eval();
    return made;
}

const metal::Launch kNorm = metal::rms_norm(metal::Type::f16, 3, 64, 64, 1e-6f, true);

// Buffers in their order, then the launch's own params; its constants with their types; its grid.
void a_launch_is_encoded_as_the_table_says() {
    const mx::array x = rows(3, 64), added = rows(3, 64), weight = rows(1, 64), out = rows(3, 64), sum = rows(3, 64);
    encode(kNorm, {{x, false}, {added, false}, {weight, false}, {out, true}, {sum, true}});
    EXPECT(record.launches == 1);
    EXPECT(record.bound.size() == 5);
    int index = 0;
    for (const mx::array* each : {&x, &added, &weight, &out, &sum}) {
        EXPECT(record.bound[index].buffer == each->buffer().ptr());
        EXPECT(record.bound[index].offset == 0);
        EXPECT(record.bound[index].written == (index >= 3));
        index++;
    }
    const auto* params = reinterpret_cast<const char*>(kNorm.params.data());
    EXPECT(record.encoder.told.size() == 1);
    EXPECT(record.encoder.told[5] == std::string(params, params + kNorm.params.size()));
    EXPECT(record.groups.width == 3 && record.groups.height == 1 && record.groups.depth == 1);
    EXPECT(record.threads.width == 32 && record.threads.height == 1);
    EXPECT(record.encoder.pipeline->kernel == "rms_norm_f16");
    EXPECT(record.constants.size() == 1);
    const auto& [name, constants] = *record.constants.begin();
    EXPECT(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789") == std::string::npos);
    EXPECT(constants.size() == 2);
    EXPECT(constants.at(0) == std::pair{MTL::DataType::DataTypeBool, 1});
    EXPECT(constants.at(1) == std::pair{MTL::DataType::DataTypeInt, 1});
}

// Metal hands out one pipeline for each set of constants.
void other_constants_are_another_kernel() {
    const int made = record.kernels_made;
    const mx::array x = rows(3, 64);
    const std::vector<gpu::Bound> buffers{{x, false}, {x, false}, {x, false}, {x, true}, {x, true}};
    encode(kNorm, buffers);
    EXPECT(record.kernels_made == made);
    encode(metal::rms_norm(metal::Type::f16, 3, 64, 64, 1e-6f, false), buffers);
    EXPECT(record.kernels_made == made + 1);
}

// A slice is bound where it begins in its buffer, and a reversed one at its lowest element.
void slices_are_bound_where_they_begin() {
    const mx::array whole = rows(8, 64), weight = rows(1, 64), out = rows(3, 64);
    mx::array below = mx::slice(whole, {2, 0}, {5, 64}, mx::Device::cpu);
    mx::array reversed = mx::slice(whole, {7, 0}, {1, 64}, {-2, 1}, mx::Device::cpu);
    below.eval(), reversed.eval();
    encode(kNorm, {{below, false}, {reversed, false}, {weight, false}, {out, true}, {out, true}});
    EXPECT(record.bound[0].buffer == whole.buffer().ptr());
    EXPECT(record.bound[0].offset == 2 * 64 * 2);
    EXPECT(record.bound[1].buffer == whole.buffer().ptr());
    EXPECT(record.bound[1].offset == 3 * 64 * 2);
}

void too_many_threads_are_an_error_that_says_so() {
    const mx::array x = rows(3, 64);
    record.most_threads = 16;
    try {
        encode(kNorm, {{x, false}, {x, false}, {x, false}, {x, true}, {x, true}});
        EXPECT(false);
    } catch (const std::runtime_error& error) {
        EXPECT(std::string(error.what()) == "rms_norm_f16 needs threadgroups of 32 threads, and this GPU takes 16");
    }
    record.most_threads = 1024;
}

void without_a_library_the_source_is_compiled_once() {
    EXPECT(gpu::library_in_use().empty());
    EXPECT(record.loads.empty());
    EXPECT(record.compiles == std::vector<std::string>{"glasschat_rms_norm_f16"});
    const std::string& text = record.encoder.pipeline->library->text;
    EXPECT(text.find("#define FOR_TYPES(KERNELS) KERNELS(f16, half)") == 0);
    EXPECT(text.find("void rms_norm(") != std::string::npos);
}

void a_library_that_does_not_load_is_tried_once(const std::string& directory) {
    record.loading_fails = true;
    gpu::kernels_in({directory, "/newer.metallib"});
    const mx::array x = rows(3, 64);
    for (int i = 0; i < 2; i++) {
        encode(kNorm, {{x, false}, {x, false}, {x, false}, {x, true}, {x, true}});
        EXPECT(record.encoder.pipeline->library->path.empty());
    }
    EXPECT(record.loads == std::vector<std::string>{"/newer.metallib"});
    EXPECT(gpu::library_in_use().empty());
    record.loading_fails = false;
}

void a_library_that_loads_has_all_kernels(const std::string& directory) {
    const size_t compiled = record.compiles.size();
    gpu::kernels_in({directory, "/fitting.metallib"});
    EXPECT(gpu::library_in_use() == "/fitting.metallib");
    const mx::array x = rows(3, 64);
    encode(metal::swiglu(metal::Type::f16, 3, 64, 64, 64), {{x, false}, {x, false}, {x, true}});
    EXPECT(record.encoder.pipeline->library->path == "/fitting.metallib");
    EXPECT(record.encoder.pipeline->kernel == "swiglu_f16");
    EXPECT(record.compiles.size() == compiled);
}

}  // namespace

int main(int, char** arguments) {
    const std::string directory = arguments[1];
    gpu::kernels_in({directory, ""});
    a_launch_is_encoded_as_the_table_says();
    other_constants_are_another_kernel();
    slices_are_bound_where_they_begin();
    too_many_threads_are_an_error_that_says_so();
    without_a_library_the_source_is_compiled_once();
    a_library_that_does_not_load_is_tried_once(directory);
    a_library_that_loads_has_all_kernels(directory);
    return failures > 0;
}
