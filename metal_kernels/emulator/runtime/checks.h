// What the compiler's hooks tell the runtime.
#pragma once

#include "interface.h"

namespace emulator {

// A thread reads or writes `size` bytes; `code` is the address behind the call.
void on_access(const void* address, unsigned size, bool write, const void* code);

// A thread does what C++ leaves undefined. Does not return where `fatal`.
void on_undefined(EmuKind kind, const EmuSite& site, bool fatal, const char* message);

}  // namespace emulator
