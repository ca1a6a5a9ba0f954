// The text of a kernel file as Metal's run-time compiler takes it: one source, with the files it includes in it.
#pragma once

#include <string>

#include "metal/launches.h"

namespace glasschat::metal {

// Where a process has the kernels from.
struct Place {
    std::string directory;  // of the sources
    std::string library;    // of compiled kernels for all types, made of the very same sources; empty if there is none
};

// `directory` holds the kernels, `file` is a name without its ending. Only the kernels for activations of `type` are in
// the text, so that nobody waits for the others. Throws std::runtime_error for a file that can't be read.
std::string source(const std::string& directory, const std::string& file, Type type);

}  // namespace glasschat::metal
