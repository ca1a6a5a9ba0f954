// The series of e^x, by falling powers: 1/7!, then the terms to be added between multiplications by x.
#pragma once

namespace glasschat::cpu {
namespace {

constexpr float kExponentialStart = 1.0f / 5040;
constexpr float kExponentialSeries[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 1.0f / 2, 1.0f, 1.0f};

}  // namespace
}  // namespace glasschat::cpu
