// What this processor can do, and how much of it the kernels use.
#pragma once

#include <string_view>
#include <vector>

namespace glasschat::cpu {

// Each level includes all before it.
#if defined(__x86_64__)
enum class Level { portable, avx2, avx512, avx512vnni, avx512bf16, amx };
#elif defined(__aarch64__)
enum class Level { portable, neon, dotprod, i8mm };
#else
enum class Level { portable };
#endif

std::string_view name(Level level);

// The highest level of this processor that the operating system lets this process use.
Level supported();

// From portable up to supported().
std::vector<Level> supported_levels();

// The level in force: supported(), unless the environment variable GLASSCHAT_CPU or set_level() name a lower one.
// Throws std::invalid_argument where the variable names none of supported_levels().
Level level();

// Throws std::invalid_argument where `name` is none of supported_levels().
void set_level(std::string_view name);

}  // namespace glasschat::cpu
