// The operations of this directory on a Metal GPU, by the kernels of metal/. The graph they build is the same
// everywhere; only where MLX has Metal can it be run.
//
// All throw std::invalid_argument for shapes and types that do not belong together, and for what the kernels are not
// made for, before anything is run.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "metal/launches.h"
#include "metal/source.h"
#include "mlx/array.h"
#include "mlx/primitives.h"
#include "primitives/paged_attention.h"

namespace glasschat::gpu {

namespace mx = mlx::core;

// Whether operations go to a GPU: it is MLX's default device, and this extension was built where MLX has Metal. Or to
// what runs launches in its place.
bool in_use();

// Where the kernels are; until it is called, nowhere.
void kernels_in(metal::Place place);

// The library of compiled kernels in use, with its path; empty where kernels are compiled when they are first used:
// there is no library, or this system does not take it.
std::string library_in_use();

// A buffer of a launch, and whether the kernel writes it.
struct Memory {
    void* bytes;
    size_t size;
    bool written;
};

// Runs launches in place of a GPU, one after another, on a thread of MLX's. The last buffer, the launch's own params,
// is not among the memory. With an empty one they go to the GPU again.
using Runner = std::function<void(const metal::Launch&, const std::vector<Memory>&)>;
void run_by(Runner runner);

// x [..., I] times a matrix in MLX's affine quantization, plus its bias [O] where there is one: [..., O].
struct QuantizedMatrix {
    mx::array words;   // [O, I * bits / 32], or [experts, O, I * bits / 32]
    mx::array scales;  // [O, I / group], or [experts, O, I / group]; of x's type, as biases and bias
    mx::array biases;
    int bits;
    int group;
};
mx::array linear(const mx::array& x, const QuantizedMatrix& matrix, const std::optional<mx::array>& bias);

// Row r [I] is row sources[r] of x [T, I] times matrix experts[r] of several: [R, O]. Many rows take less time where
// those of one expert stand together.
mx::array gather_linear(const mx::array& x, const QuantizedMatrix& matrices, const mx::array& experts,
                        const mx::array& sources);

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps);

// The normalized sum of x and `added`, both [T, E], and the sum.
std::pair<mx::array, mx::array> add_rms_norm(const mx::array& x, const mx::array& added, const mx::array& weight,
                                             float eps);
mx::array rope(const mx::array& x, const mx::array& positions, float theta);
mx::array silu_mul(const mx::array& gate, const mx::array& up);
mx::array largest(const mx::array& x, int count);
mx::array greedy(const mx::array& x);

// Of each row of x [R, V] the id whose logit / temperature + noise is largest: of all, or of those listed [R, n]. `keys`
// [R, 2] are the low and the high half of what the noise is made from, `temperatures` [R].
mx::array draw(const mx::array& x, const std::optional<mx::array>& listed, const mx::array& keys,
               const mx::array& temperatures);

// As in paged_attention.h. Floats in the pool are of q's type.
mx::array write_kv(const Store& store, const mx::array& rows, const Layout& layout);
mx::array paged_attention(const mx::array& q, const Store& keys, const Store& values, const Layout& layout,
                          float scale);

// What a kernel's buffers are: by kind and number.
struct Slot {
    // `between` is left by a step as `left`; `changed` is an input that is written where it is.
    enum Kind { input, output, left, between, changed } kind;
    int number;
};

struct Step {
    metal::Launch launch;
    std::vector<Slot> slots;
};

// An array that one step leaves for the next.
struct Between {
    mx::Shape shape;
    mx::Dtype type;
};

// Kernels launched one after another, as an operation of MLX's graph. Inputs lie in memory without gaps when they run:
// one that does not, or begins where no vector can be loaded, is copied first.
class Launches : public mx::Primitive {
  public:
    Launches(mx::Stream stream, const char* name, metal::Type type, std::vector<Step> steps,
             std::vector<Between> between = {});

    const char* name() const override { return name_; }
    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) final {
        eval_gpu(inputs, outputs);  // where launches are not run by a GPU, but in its place
    }
    // Throws a std::runtime_error that names this operation for what can't be launched: others can compute it. Where
    // memory is short it is MLX's error, as everywhere.
    void eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) final;

  protected:
    virtual void launch(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs);

    // Inputs from number `checked` on are copied if they have gaps.
    void run(const std::vector<Step>& steps, std::vector<mx::array> inputs, std::vector<mx::array>& outputs,
             size_t checked = 0);
    void run(const Step& step, const std::vector<mx::array>& inputs, const std::vector<mx::array>& outputs,
             const std::vector<mx::array>& between);

    // The array without gaps, itself if it has none.
    mx::array ready(const mx::array& x);

    // Whether vectors of four elements can be loaded from an array, which then has gaps between its rows alone.
    static bool has_even_rows(const mx::array& x);

  private:
    const char* name_;
    metal::Type type_;
    std::vector<Step> steps_;
    std::vector<Between> between_;
};

// An array that a kernel is given, from its lowest element on, and whether it writes it.
struct Bound {
    mx::array array;
    bool written;
};

// Of an array with gaps: where its lowest element is, counted from its first, and how many elements of memory there are
// from it to the highest.
struct Extent {
    int64_t lowest;
    int64_t count;
};
Extent extent(const mx::array& x);

// Encodes one launch for a stream. Throws std::runtime_error where nothing can run it.
void encode(const mx::Stream& stream, metal::Type type, const metal::Launch& launch, const std::vector<Bound>& buffers);

// Keeps arrays alive until what is encoded has run.
void keep(const mx::Stream& stream, std::vector<mx::array> arrays);

// The stream that launches go to.
mx::Stream stream();

metal::Type type_of(mx::Dtype type, const char* what);

}  // namespace glasschat::gpu
