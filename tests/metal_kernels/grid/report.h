// What a run found: how many cases agree, and how near the worst came to what is allowed.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace grid {

// Of one number: what it should be, and how far from it a kernel may be.
struct Truth {
    double value;
    double allowed;
};

class Report {
   public:
    explicit Report(std::string subject) : subject_(std::move(subject)) {}
    // One line: the subject, its cases, and the worst of them.
    ~Report();
    Report(const Report&) = delete;

    // A case: `count` numbers, each compared with its truth. A number that is none agrees with nothing, unless that is
    // the truth.
    void compare(const std::string& name, int64_t count, const std::function<double(int64_t)>& found,
                 const std::function<Truth(int64_t)>& truth);
    // A case that holds or does not.
    void expect(const std::string& name, bool holds, const std::string& otherwise);

    // Cases that failed, of all reports.
    static int64_t failures();

   private:
    void fail(const std::string& name, const std::string& what);

    std::string subject_;
    int64_t cases_ = 0;
    int64_t failed_ = 0;
    double worst_ = 0;  // distance as a fraction of what is allowed
};

}  // namespace grid
