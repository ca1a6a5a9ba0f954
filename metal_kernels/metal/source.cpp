#include "metal/source.h"

#include <fstream>
#include <set>
#include <stdexcept>
#include <string_view>

namespace glasschat::metal {

namespace {

// Appends a file with every `#include "..."` line replaced by that file, the first time it is included.
void append(const std::string& directory, const std::string& name, std::set<std::string>& included, std::string& text) {
    std::ifstream file(directory + "/" + name);
    if (!file) {
        throw std::runtime_error("the Metal kernels' source " + directory + "/" + name + " can't be read");
    }
    constexpr std::string_view kInclude = "#include \"", kOnce = "#pragma once";
    text += "#line 1 \"" + name + "\"\n";
    int number = 0;
    for (std::string line; std::getline(file, line);) {
        number++;
        if (line.starts_with(kInclude)) {
            const std::string other = line.substr(kInclude.size(), line.rfind('"') - kInclude.size());
            if (included.insert(other).second) {
                append(directory, other, included, text);
            }
            text += "#line " + std::to_string(number + 1) + " \"" + name + "\"\n";
        } else if (!line.starts_with(kOnce)) {
            text += line + "\n";
        } else {
            text += "\n";
        }
    }
}

}  // namespace

std::string source(const std::string& directory, const std::string& file, Type type) {
    const std::string element = type == Type::f32 ? "float" : type == Type::f16 ? "half" : "bfloat";
    std::string text = "#define FOR_TYPES(KERNELS) KERNELS(" + name(type) + ", " + element + ")\n";
    text += "#define UNROLL _Pragma(\"clang loop unroll(full)\")\n";
    std::set<std::string> included;
    append(directory, file + ".metal", included, text);
    return text;
}

}  // namespace glasschat::metal
