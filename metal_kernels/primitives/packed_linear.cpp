#include "primitives/packed_linear.h"

#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/bf16_matmul.h"
#include "cpu/int8_matmul.h"
#include "cpu/matmul.h"
#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "primitives/arrays.h"

namespace glasschat {

namespace {

using cpu::Float;
using cpu::Format;

mx::Dtype dtype(Float type) {
    return type == Float::f32 ? mx::float32 : type == Float::bf16 ? mx::bfloat16 : mx::float16;
}

Format format(Float type) {
    return type == Float::f32 ? Format::f32 : type == Float::bf16 ? Format::bf16 : Format::f16;
}

Float float_of(Format format) {
    return format == Format::f32 ? Float::f32 : format == Format::bf16 ? Float::bf16 : Float::f16;
}

mx::array ready(const mx::array& array) {
    mx::array contiguous = mx::contiguous(array, false, mx::Device::cpu);
    contiguous.eval();
    return contiguous;
}

Matrix pack_plain(const cpu::PlainMatrix& plain, const std::optional<mx::array>& bias) {
    if (!bias) {
        return std::make_shared<const cpu::PackedMatrix>(plain, nullptr, Float::f32);
    }
    need(bias->ndim() == 1 && bias->shape(0) == plain.rows, "a bias has one number for each row of its matrix");
    const Float type = float_type(bias->dtype(), "a bias");
    const mx::array held = ready(*bias);
    return std::make_shared<const cpu::PackedMatrix>(plain, held.data<void>(), type);
}

mx::array empty(mx::Shape shape, mx::Dtype type) {
    int64_t size = type.size();
    for (const auto extent : shape) {
        size *= extent;
    }
    return mx::array(mx::allocator::malloc(size), std::move(shape), type);
}

std::vector<int64_t> all_rows(const cpu::PackedMatrix& matrix) {
    std::vector<int64_t> ids(matrix.rows());
    std::iota(ids.begin(), ids.end(), 0);
    return ids;
}

std::vector<int64_t> checked(const cpu::PackedMatrix& matrix, const mx::array& ids) {
    need(ids.ndim() == 1 && mx::issubdtype(ids.dtype(), mx::integer), "ids are integers [T]");
    const mx::array wanted = ready(mx::astype(ids, mx::int64, mx::Device::cpu));
    const auto* first = wanted.data<int64_t>();
    for (size_t i = 0; i < wanted.size(); i++) {
        if (first[i] < 0 || first[i] >= matrix.rows()) {
            throw std::invalid_argument("id " + std::to_string(first[i]) + " is no row of a matrix with " +
                                        std::to_string(matrix.rows()) + " rows");
        }
    }
    return {first, first + wanted.size()};
}

void int8_or_exact(const cpu::PackedMatrix& matrix, const cpu::Activations& activations) {
    matrix.quantized() ? cpu::int8_matmul(matrix, activations) : cpu::matmul(matrix, activations);
}

class PackedLinear : public CpuPrimitive {
  public:
    PackedLinear(mx::Stream stream, Matrix matrix, Rounding rounding)
        : CpuPrimitive(stream), matrix_(std::move(matrix)), rounding_(rounding) {}

    const char* name() const override { return "PackedLinear"; }

    void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
        const mx::array& x = inputs[0];
        mx::array& y = outputs[0];
        y.set_data(mx::allocator::malloc(y.nbytes()));
        if (x.size() == 0) {
            return;
        }
        mx::cpu::CommandEncoder& encoder = mx::cpu::get_command_encoder(stream());
        encoder.set_input_array(x);
        encoder.set_output_array(y);
        const cpu::Activations activations{x.data<void>(), y.data<void>(), float_type(x.dtype(), "activations"),
                                           static_cast<int64_t>(x.size()) / matrix_->columns()};
        encoder.dispatch([matrix = matrix_, activations, multiply = multiply(rounding_)] { multiply(*matrix, activations); });
    }

  private:
    Matrix matrix_;
    Rounding rounding_;
};

}  // namespace

Rounding rounding_named(std::string_view name) {
    if (name == "bfloat16") {
        return Rounding::bfloat16;
    }
    need(name == "int8" || name == "exact", std::string(name) + " is no way of rounding activations");
    return name == "int8" ? Rounding::int8 : Rounding::none;
}

cpu::Multiply multiply(Rounding rounding) {
    return rounding == Rounding::int8       ? int8_or_exact
           : rounding == Rounding::bfloat16 ? cpu::bf16_matmul
                                            : cpu::matmul;
}

Matrix pack(const mx::array& weight, const std::optional<mx::array>& bias) {
    need(weight.ndim() == 2, "a matrix has two dimensions");
    const Float type = float_type(weight.dtype(), "a matrix");
    const mx::array held = ready(weight);
    return pack_plain({format(type), weight.shape(0), weight.shape(1), held.data<void>()}, bias);
}

Matrix pack_quantized(const mx::array& words, const mx::array& scales, const mx::array& biases, int bits,
                      int group_size, const std::optional<mx::array>& bias) {
    need(bits == 4 || bits == 8, "packed matrices have 4 or 8 bits");
    need(words.ndim() == 2 && words.dtype() == mx::uint32, "quantized elements are words [O, I * bits / 32] of uint32");
    const int64_t rows = words.shape(0), columns = int64_t{words.shape(1)} * 32 / bits;
    need(group_size > 0 && columns % group_size == 0, "groups must divide the columns");
    const mx::Shape shape{words.shape(0), static_cast<int>(columns / group_size)};
    need(scales.shape() == shape && biases.shape() == shape, "scales and biases are [O, I / group_size]");
    need(scales.dtype() == biases.dtype(), "scales and biases have one type");
    const Float type = float_type(scales.dtype(), "scales");
    const mx::array held = ready(words), held_scales = ready(scales), held_biases = ready(biases);
    const cpu::PlainMatrix plain{bits == 4 ? Format::q4 : Format::q8, rows, columns, held.data<void>(), group_size,
                                 type, held_scales.data<void>(), held_biases.data<void>()};
    return pack_plain(plain, bias);
}

std::tuple<mx::array, mx::array, mx::array> unpack(const Matrix& matrix, const std::optional<mx::array>& ids) {
    const std::vector<int64_t> wanted = ids ? checked(*matrix, *ids) : all_rows(*matrix);
    const int rows = static_cast<int>(wanted.size()), columns = static_cast<int>(matrix->columns());
    if (!matrix->quantized()) {
        mx::array elements = empty({rows, columns}, dtype(float_of(matrix->format())));
        matrix->unpack_rows(wanted.data(), rows, elements.data<void>(), nullptr, nullptr);
        return {elements, empty({0}, elements.dtype()), empty({0}, elements.dtype())};
    }
    const mx::Dtype type = dtype(matrix->scale_type());
    const int groups = static_cast<int>(matrix->groups());
    mx::array words = empty({rows, columns * bits(matrix->format()) / 32}, mx::uint32);
    mx::array scales = empty({rows, groups}, type), biases = empty({rows, groups}, type);
    matrix->unpack_rows(wanted.data(), rows, words.data<void>(), scales.data<void>(), biases.data<void>());
    return {words, scales, biases};
}

mx::array take_rows(const Matrix& matrix, const mx::array& ids, mx::Dtype type) {
    const Float taken_type = float_type(type, "rows");
    const std::vector<int64_t> wanted = checked(*matrix, ids);
    const int64_t count = wanted.size(), columns = matrix->columns();
    mx::array taken = empty({static_cast<int>(count), static_cast<int>(columns)}, type);
    const int width = bits(matrix->format());
    const Float scale_type = matrix->scale_type();
    const int64_t scale_bytes = matrix->groups() * cpu::bytes(scale_type);
    std::vector<uint8_t> elements(columns * width / 8), scales(scale_bytes), biases(scale_bytes);
    for (int64_t i = 0; i < count; i++) {
        matrix->unpack_rows(&wanted[i], 1, elements.data(), scales.data(), biases.data());
        for (int64_t column = 0; column < columns; column++) {
            float value;
            if (matrix->quantized()) {
                const int q = width == 8 ? elements[column] : elements[column / 2] >> (column % 2 * 4) & 15;
                const int64_t group = column / matrix->group_size();
                value = static_cast<float>(q) * cpu::numbers::load(scales.data(), scale_type, group) +
                        cpu::numbers::load(biases.data(), scale_type, group);
            } else {
                value = cpu::numbers::load(elements.data(), float_of(matrix->format()), column);
            }
            cpu::numbers::store(taken.data<void>(), taken_type, i * columns + column, value);
        }
    }
    return taken;
}

mx::array packed_linear(const mx::array& x, const Matrix& matrix, Rounding rounding) {
    float_type(x.dtype(), "activations");
    need(x.ndim() >= 1 && x.shape(-1) == matrix->columns(), "activations have as many columns as the matrix");
    need(rounding != Rounding::int8 || matrix->quantized(),
         "activations are rounded to int8 for quantized matrices alone");
    const mx::Stream stream = cpu_stream();
    mx::Shape shape = x.shape();
    shape.back() = static_cast<int>(matrix->rows());
    return mx::array(std::move(shape), x.dtype(), std::make_shared<PackedLinear>(stream, matrix, rounding),
                     {mx::contiguous(x, false, stream)});
}

}  // namespace glasschat
