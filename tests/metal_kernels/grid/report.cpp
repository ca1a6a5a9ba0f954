#include "report.h"

#include <cmath>
#include <cstdio>
#include <iostream>
#include <sstream>

namespace grid {

namespace {

constexpr int64_t kMostShown = 20;  // of a subject: what is broken is broken in many cases
int64_t all_failures = 0;

}  // namespace

int64_t Report::failures() {
    return all_failures;
}

Report::~Report() {
    std::printf("%-28s %6lld cases, %lld failed, worst at %.2f of its bound\n", subject_.c_str(),
                static_cast<long long>(cases_), static_cast<long long>(failed_), worst_);
    std::fflush(stdout);
}

void Report::compare(const std::string& name, int64_t count, const std::function<double(int64_t)>& found,
                     const std::function<Truth(int64_t)>& truth) {
    cases_++;
    for (int64_t i = 0; i < count; i++) {
        const double number = found(i);
        const Truth right = truth(i);
        if (std::isnan(right.value) && std::isnan(number)) {
            continue;
        }
        const double distance = std::abs(number - right.value);
        if (!(distance <= right.allowed)) {
            std::ostringstream what;
            what.precision(9);
            what << "number " << i << " is " << number << ", not " << right.value << " within " << right.allowed;
            return fail(name, what.str());
        }
        if (distance > 0) {
            worst_ = std::max(worst_, distance / right.allowed);
        }
    }
}

void Report::expect(const std::string& name, bool holds, const std::string& otherwise) {
    cases_++;
    if (!holds) {
        fail(name, otherwise);
    }
}

void Report::fail(const std::string& name, const std::string& what) {
    failed_++;
    all_failures++;
    if (failed_ <= kMostShown) {
        std::cerr << subject_ << ", " << name << ": " << what << std::endl;
    }
}

}  // namespace grid
