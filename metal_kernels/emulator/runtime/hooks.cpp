// What the compiler calls before each access to memory (it believes to build for ThreadSanitizer) and where a C++
// expression has no defined value (for UndefinedBehaviorSanitizer). Neither tool's library is linked.
#include "checks.h"

#include <cstdint>
#include <cstdio>
#include <cstring>

using emulator::on_access;
using emulator::on_undefined;

namespace {

// The beginning of every description that UndefinedBehaviorSanitizer passes.
struct Description {
    const char* file;
    uint32_t line, column;
    const struct Type {
        uint16_t kind, info;
        char name[1];
    }* type;
};

struct PointerDescription : Description {
    unsigned char log_alignment, what;
};

EmuSite site_of(const Description* at) { return {at->file ? at->file : "", int(at->line), int(at->column), ""}; }

void undefined(const Description* at, EmuKind kind, bool fatal, const char* format, const char* name) {
    char message[300];
    snprintf(message, sizeof message, format, name);
    on_undefined(kind, site_of(at), fatal, message);
}

}  // namespace

#define EMU_CODE __builtin_return_address(0)
#define EMU_ACCESS(size)                                                                            \
    void __tsan_read##size(void* at) { on_access(at, size, false, EMU_CODE); }                      \
    void __tsan_write##size(void* at) { on_access(at, size, true, EMU_CODE); }                      \
    void __tsan_unaligned_read##size(void* at) { on_access(at, size, false, EMU_CODE); }            \
    void __tsan_unaligned_write##size(void* at) { on_access(at, size, true, EMU_CODE); }

extern "C" {

EMU_ACCESS(1)
EMU_ACCESS(2)
EMU_ACCESS(4)
EMU_ACCESS(8)
EMU_ACCESS(16)

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_read_range(void* at, size_t size) { on_access(at, unsigned(size), false, EMU_CODE); }
void __tsan_write_range(void* at, size_t size) { on_access(at, unsigned(size), true, EMU_CODE); }

void* __tsan_memcpy(void* to, const void* from, size_t size) {
    on_access(from, unsigned(size), false, EMU_CODE);
    on_access(to, unsigned(size), true, EMU_CODE);
    return memcpy(to, from, size);
}

void* __tsan_memmove(void* to, const void* from, size_t size) {
    on_access(from, unsigned(size), false, EMU_CODE);
    on_access(to, unsigned(size), true, EMU_CODE);
    return memmove(to, from, size);
}

void* __tsan_memset(void* to, int value, size_t size) {
    on_access(to, unsigned(size), true, EMU_CODE);
    return memset(to, value, size);
}

void __ubsan_handle_out_of_bounds(const Description* at, uintptr_t index) {
    char message[200];
    snprintf(message, sizeof message, "index %lld is out of bounds for %s", (long long)(index), at->type->name);
    on_undefined(kEmuOutOfBounds, site_of(at), true, message);
}

void __ubsan_handle_type_mismatch_v1(const PointerDescription* at, uintptr_t pointer) {
    char message[200];
    snprintf(message, sizeof message, "the address of this %s is not a multiple of %u, but %u more", at->type->name,
             1u << at->log_alignment, unsigned(pointer & ((uintptr_t{1} << at->log_alignment) - 1)));
    on_undefined(kEmuUndefined, site_of(at), true, message);
}

void __ubsan_handle_divrem_overflow(const Description* at, uintptr_t, uintptr_t) {
    undefined(at, kEmuUndefined, true, "integer division by zero, or of the smallest %s by -1", at->type->name);
}

#define EMU_OVERFLOW(operation, ...)                                                                  \
    void __ubsan_handle_##operation##_overflow(const Description* at, __VA_ARGS__) {                     \
        undefined(at, kEmuUndefined, false, "the result does not fit %s", at->type->name);          \
    }
EMU_OVERFLOW(add, uintptr_t, uintptr_t)
EMU_OVERFLOW(sub, uintptr_t, uintptr_t)
EMU_OVERFLOW(mul, uintptr_t, uintptr_t)
EMU_OVERFLOW(negate, uintptr_t)

void __ubsan_handle_missing_return(const Description* at) {
    undefined(at, kEmuUndefined, true, "the function ends without returning a value%s", "");
}

void __ubsan_handle_builtin_unreachable(const Description* at) {
    undefined(at, kEmuUndefined, true, "this place was declared unreachable%s", "");
}

}  // extern "C"
