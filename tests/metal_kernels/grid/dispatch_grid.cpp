// Which kernels are in force at a level: those that were made for it, and no others.
#include "cpu/dispatch.h"

#include "cpu/attention.h"
#include "cpu/int8_matmul.h"
#include "cpu/matmul.h"
#include "cpu/probe.h"
#include "cpu/rows.h"
#include "grid.h"
#include "report.h"

namespace grid {

namespace {

using namespace glasschat::cpu;

struct Tables {
    const MatmulKernels& matmul;
    const AttentionKernels& attention;
    const RowsKernels& rows;
    const Int8Kernels& int8;
    const ProbeKernels& probe;
};

Tables made_for(Level level) {
    switch (level) {
#if defined(__x86_64__)
        case Level::avx2:
            return {kAvx2Matmul, kAvx2Attention, kAvx2Rows, kAvx2Int8, kAvx2Probe};
        case Level::avx512:
            return {kAvx512Matmul, kAvx512Attention, kAvx512Rows, kAvx512Int8, kAvx512Probe};
        case Level::avx512vnni:
        case Level::avx512bf16:
            return {kAvx512Matmul, kAvx512Attention, kAvx512Rows, kAvx512VnniInt8, kAvx512VnniProbe};
        case Level::amx:
            return {kAvx512Matmul, kAvx512Attention, kAvx512Rows, kAmxInt8, kAmxProbe};
#elif defined(__aarch64__)
        case Level::neon:
            return {kNeonMatmul, kNeonAttention, kNeonRows, kNeonInt8, kNeonProbe};
        case Level::dotprod:
            return {kNeonMatmul, kNeonAttention, kNeonRows, kDotprodInt8, kDotprodProbe};
        case Level::i8mm:
            return {kNeonMatmul, kNeonAttention, kNeonRows, kI8mmInt8, kI8mmProbe};
#endif
        default:
            return {kPortableMatmul, kPortableAttention, kPortableRows, kPortableInt8, kPortableProbe};
    }
}

}  // namespace

void dispatch_grid() {
    Report report("dispatch");
    const Tables own = made_for(level());
    const auto same = [&](const char* kind, const void* found, const void* wanted) {
        report.expect(kind, found == wanted, "the kernels in force are not those of the level");
    };
    same("matmul", &GLASSCHAT_IN_FORCE(Matmul), &own.matmul);
    same("attention", &GLASSCHAT_IN_FORCE(Attention), &own.attention);
    same("rows", &GLASSCHAT_IN_FORCE(Rows), &own.rows);
    same("int8 products", &GLASSCHAT_DOTS_IN_FORCE(Int8), &own.int8);
    same("probe", &GLASSCHAT_DOTS_IN_FORCE(Probe), &own.probe);
}

}  // namespace grid
