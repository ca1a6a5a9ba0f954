// What Apple's compiler refuses, although clang accepts it where Metal is read as C++. Each line names the rule.
#include <metal_stdlib>
using namespace metal;

float first(float* values) {  // <- pointer
    return values[0];
}

float largest(thread const float* values, thread float & at) {
    at = 1.0f;
    return max(values[0], values[1]);
}

float keep(float value, float& where) {  // <- pointer
    where = value;
    return value;
}

float from_device(device const float* values) {
    return values[0];
}

float generic(const device float* values, uint count) {
    float sum = 0.0f;
    for (uint i = 0; i < count; i++) {
        sum += values[i] * values[i];
    }
    return sum;
}

int factorial(int n) {  // <- recursion
    return n < 2 ? 1 : n * factorial(n - 1);
}

int odd(int n);
int even(int n) {  // <- recursion
    return n == 0 ? 1 : odd(n - 1);
}
int odd(int n) {  // <- recursion
    return n == 0 ? 0 : even(n - 1);
}

template <int N>
int unrolled() {
    if constexpr (N > 0) {
        return N + unrolled<N - 1>();
    }
    return 0;
}

constant float fine = 1.0f;
constexpr constant int also_fine[2] = {1, 2};
const float table[2] = {1.0f, 2.0f};  // <- storage
constexpr int plain = 3;  // <- storage
int counter = 0;  // <- storage

struct Part {
    static constexpr int size = 4;  // <- storage
    static constexpr constant int width = 4;
    int begin;
    int end = 3;
    int length() const thread { return end - begin; }
};

template <typename T>
struct Box {
    T value;
    Box(T v) : value(v) {}
};

namespace outer::inner {  // <- language
constant int deep = 1;
}

inline constant int shared = 2;  // <- language

template <typename... Numbers>
int sum_of(Numbers... numbers) {
    return (numbers + ...);  // <- language
}

float square(float x) {
    return x * x;
}

float twice(float (*function)(float), float x) {  // <- language, pointer
    return function(function(x));
}

struct Base {
    virtual int size() { return 1; }  // <- language
};

kernel void spaces(device const float* x [[buffer(0)]], device float* out [[buffer(1)]],
                   threadgroup float* scratch [[threadgroup(0)]], uint i [[thread_position_in_grid]]) {
    threadgroup float tile[64];
    tile[i] = x[i];
    out[i] = from_device(tile);  // <- address-space
    float* inner = tile;  // <- address-space, pointer
    device float* outer = scratch;  // <- address-space
    const device float* right = x + 1;
    thread float mine[2] = {1.0f, 2.0f};
    thread float* pointer = mine;
    out[i] += inner[0] + outer[0] + right[0] + pointer[0];
    out[i] += *(float*)(mine);  // <- pointer
    out[i] += *reinterpret_cast<float*>(mine);  // <- pointer
    out[i] += *reinterpret_cast<thread float*>(mine) * mine[0] * generic(x, i);
    auto&& more = out[i];
    more = more * fine;
}

kernel void bfloats(device const bfloat* x [[buffer(0)]], device bfloat* out [[buffer(1)]],
                    device half* halves [[buffer(2)]], uint i [[thread_position_in_grid]]) {
    const float f = x[i];
    const bfloat product = x[i] * x[i];
    out[i] = bfloat(f * 2.0f) + product;
    out[i] = f;  // <- bfloat
    bfloat one = 1.0f;  // <- bfloat
    out[i] += one * f;  // <- bfloat
    halves[i] = x[i];  // <- address-space, bfloat, language
    halves[i] = half(float(x[i]));
    out[i] = metal::exp(x[i]);  // <- bfloat
    out[i] = bfloat(metal::exp(float(x[i])));
    out[i] = simd_sum(x[i]);  // <- bfloat
    out[i] = max(x[i], out[i]);  // <- bfloat
    out[i] = as_type<bfloat>(ushort(16256));
    const vec<bfloat, 4> four = *(device const vec<bfloat, 4>*)(x + 4 * i);
    out[i] = bfloat(float(four.x) + float(four.w));
}

kernel void words(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    const double wide = 1.0;  // <- language
    static int calls = 0;  // <- storage
    auto twice = [](float v) { return 2 * v; };  // <- language
    const float long_one = 1.0l;  // <- language
    if (i == 7) goto end;  // <- language
    out[i] = float(wide) + twice(float(calls)) + long_one;
end:
    out[i] += (i & 3) + i * 2;
    const uint a = i * 3, b = i & a;
    out[i] += largest(&out[0] == nullptr ? nullptr : nullptr, *(thread float*)nullptr) + b;
}

kernel void newer(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
    const Box named = Box<float>(1.0f);  // <- language
    const Box<float> box = Box<float>(1.0f);
    const Part part = {int(i), 4};
    auto [begin, end] = part;  // <- language
    if (int rest = int(i) % 2; rest == 0) {  // <- language
        out[i] = box.value + named.value;
    }
    float room[i + 1];  // <- language
    room[0] = 0.0f;
    out[i] += room[0] + twice(&square, float(begin + end + sum_of(1, 2)));  // <- language
}

kernel void arguments(  // <- kernel
    device const float* x [[buffer(0)]], device float* out [[buffer(31)]], uint2 at [[thread_position_in_grid]],
    uint3 group [[threadgroup_position_in_grid]], uint2 lane [[thread_index_in_simdgroup]],
    int index [[thread_index_in_threadgroup]], const float* bare [[buffer(2)]], constant float& twice [[buffer(0)]]) {  // <- pointer
    out[at.x] = x[0] + float(group.x + lane.x) + float(index) + bare[0] + twice;
}
