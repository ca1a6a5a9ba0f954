// The numbers that a launch gives its kernel, beside the arrays: one struct per kernel, read by the kernels and by the
// C++ host code alike. Only int and float, which have the same size and order on both sides.
#pragma once

// y [rows, outputs] = x times a quantized matrix [outputs, inputs].
struct QuantizedParams {
    int rows;
    int outputs;
    int inputs;
    int split_inputs;  // columns that one split sums; all of them without a split
};

// y [rows, outputs] = the sum of partial [splits, rows, outputs].
struct SplitSumParams {
    int rows;
    int outputs;
    int splits;
};

// Attention of H_q query heads over H key heads; see attention.h.
struct AttentionParams {
    int heads;
    int kv_heads;
    int table_width;   // blocks in a row of the table
    int part;          // keys of a context that one threadgroup looks at
    int splits;        // parts of the longest context
    int query_stride;  // numbers between the starts of two tokens' queries
    float scale;
};

struct CopyParams {
    int eights;  // of bytes
};

// Elements [shape] from `first` on, each dimension's `strides` apart, to memory without gaps.
struct GatherParams {
    int shape[4];
    int strides[4];
    int first;
};

struct WriteKvParams {
    int width;   // H * D
    int stride;  // numbers between the starts of two rows
};

struct RmsNormParams {
    int width;
    int stride;  // numbers between the starts of two rows of x
    float eps;
};

struct RopeParams {
    int heads;
    int size;
    int stride;  // numbers between the starts of two tokens' heads
    float log2_theta;
};

struct SwigluParams {
    int width;
    int gate_stride;
    int up_stride;
};

struct ArgmaxParams {
    int width;  // numbers in a row of logits
    int count;  // candidates of a row; all of them, unless they are listed
};

struct LargestParams {
    int width;
    int count;
};
