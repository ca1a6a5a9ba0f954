#include "cpu/draw.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/noise_bits.h"
#include "cpu/pool.h"

namespace glasschat::cpu {

namespace {

const DrawKernels& kernels() {
    return GLASSCHAT_IN_FORCE(Draw);
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Token {
    float logit;
    uint32_t id;
    float relative;
    float weight;  // e^relative
};

bool beats(const Winner& a, const Winner& b) {
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// The order that top-k and top-p count in.
bool before(const Token& a, const Token& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// Leaves the first tokens in order that hold a mass, the one that reaches it included. Only those that are about as
// likely as that one are put in order: masses by likelihood say which.
void leave_mass(std::vector<Token>& tokens, double mass) {
    constexpr int kBins = 1024;
    constexpr float kNever = 104;  // e^-104 is 0
    float most = 1;
    for (const Token& token : tokens) {
        most = std::max(most, std::min(kNever, -token.relative));
    }
    const float scale = (kBins - 1) / most;
    const auto bin = [&](const Token& token) {
        return static_cast<int>(std::min(kNever, -token.relative) * scale);
    };
    std::array<double, kBins> masses{};
    for (const Token& token : tokens) {
        masses[bin(token)] += token.weight;
    }
    int last = 0;
    double held = 0;
    while (last < kBins - 1 && held + masses[last] < mass) {
        held += masses[last++];
    }
    const auto surely = std::partition(tokens.begin(), tokens.end(), [&](const Token& t) { return bin(t) < last; });
    auto next = surely;
    const auto maybe = std::partition(next, tokens.end(), [&](const Token& t) { return bin(t) == last; });
    std::sort(next, maybe, before);
    while (next < maybe && held < mass) {
        held += (next++)->weight;
    }
    tokens.erase(next, tokens.end());
}

// One row: which of its tokens compete.
class Row {
  public:
    Row(const DrawTask& task, int64_t row)
        : contest_{task.x + row * task.width, nullptr, 0, task.draws[row]},
          width_(task.width),
          maxima_((task.width + kDrawRun - 1) / kDrawRun) {
        const bool numbers = kernels().maxima(contest_.x, width_, maxima_.data());
        const auto run = std::max_element(maxima_.begin(), maxima_.end());
        contest_.peak = *run;
        int64_t best = (run - maxima_.begin()) * kDrawRun;
        // Minus infinity counted as the least finite number: a row of nothing else has none that is equal to it.
        while (best < width_ && contest_.x[best] != contest_.peak) {
            best++;
        }
        usable_ = numbers && best < width_;
        if (!usable_) {
            return;
        }
        winner_ = better(contest_, best, {-kInfinity, 0});
        if (cuts_to_some() || contest_.draw.top_p < 1) {
            choose_some();
        }
    }

    bool usable() const { return usable_; }

    // How many tokens compete.
    int64_t size() const { return contest_.ids ? static_cast<int64_t>(ids_.size()) : width_; }

    // The winner of tokens first to end and the likeliest one.
    Winner compete(int64_t first, int64_t end) const {
        return kernels().compete(contest_, contest_.ids ? nullptr : maxima_.data(), first, end, winner_);
    }

  private:
    bool cuts_to_some() const { return contest_.draw.top_k > 0 && contest_.draw.top_k < width_; }

    void choose_some() {
        const bool by_mass = contest_.draw.top_p < 1, min_p = contest_.draw.floor > -kInfinity;
        // Of the whole row, where no other filter comes before top-p.
        const double row_mass = by_mass && !cuts_to_some() && !min_p ? kernels().mass(contest_, width_) : 0;
        const float relative = row_mass > 0 ? tail(row_mass) : contest_.draw.floor;
        std::vector<Token> tokens = collect(std::max(cuts_to_some() ? kth_of_maxima() : -kInfinity, logit(relative)));
        if (cuts_to_some() && static_cast<int64_t>(tokens.size()) > contest_.draw.top_k) {
            std::nth_element(tokens.begin(), tokens.begin() + contest_.draw.top_k, tokens.end(), before);
            tokens.resize(contest_.draw.top_k);
        }
        if (by_mass) {
            double mass = 0;
            for (Token& token : tokens) {
                token.weight = std::exp(token.relative);
                mass += token.weight;
            }
            leave_mass(tokens, contest_.draw.top_p * (row_mass > 0 ? row_mass : mass));
        }
        logits_.reserve(tokens.size());
        ids_.reserve(tokens.size());
        for (const Token& token : tokens) {
            logits_.push_back(token.logit);
            ids_.push_back(token.id);
        }
        contest_.x = logits_.data();
        contest_.ids = ids_.data();
    }

    // k runs have a number that is no less, so the k largest of the row are none.
    float kth_of_maxima() const {
        const int64_t k = contest_.draw.top_k;
        if (k > static_cast<int64_t>(maxima_.size())) {
            return -kInfinity;
        }
        std::vector<float> ordered(maxima_);
        std::nth_element(ordered.begin(), ordered.begin() + k - 1, ordered.end(), std::greater<float>());
        return ordered[k - 1];
    }

    // Relative logits below this have less than what top-p leaves, if all tokens had as much.
    float tail(double mass) const {
        constexpr double kMargin = 1e-3;  // more than the sums' rounding
        const double left = (1 - static_cast<double>(contest_.draw.top_p)) * mass;
        return static_cast<float>(std::log(left / static_cast<double>(width_)) - kMargin);
    }

    // No token that is relatively no less than a bound has a smaller logit.
    float logit(float relative) const {
        constexpr float kMargin = 1e-5f;  // more than rounding
        const float distance = -relative * contest_.draw.temperature;
        return contest_.peak - distance - kMargin * (distance + std::abs(contest_.peak));
    }

    // The tokens that are no less than a bound, and kept by min-p.
    std::vector<Token> collect(float least) const {
        std::vector<Token> tokens;
        for (size_t run = 0; run < maxima_.size(); run++) {
            if (maxima_[run] < least) {
                continue;
            }
            const int64_t first = static_cast<int64_t>(run) * kDrawRun;
            for (int64_t i = first; i < std::min(width_, first + kDrawRun); i++) {
                const float x = contest_.x[i], relative = contest_.relative(x);
                if (x >= least && relative >= contest_.draw.floor) {
                    tokens.push_back({x, static_cast<uint32_t>(i), relative, 0});
                }
            }
        }
        return tokens;
    }

    Contest contest_;
    int64_t width_;
    std::vector<float> maxima_;
    bool usable_ = false;
    Winner winner_{};
    std::vector<float> logits_;
    std::vector<uint32_t> ids_;
};

}  // namespace

Winner better(const Contest& contest, int64_t i, Winner other) {
    const float logit = contest.relative(contest.x[i]);
    if (logit < contest.draw.floor) {
        return other;
    }
    const uint32_t id = contest.ids ? contest.ids[i] : static_cast<uint32_t>(i);
    const uint32_t bits = noise_bits(contest.draw.low, contest.draw.high, id);
    // Uniform in (0, 1): half a step above 0, and held below 1, where float32 would round it up to.
    constexpr float kStep = 0x1p-32f, kHalf = 0x1p-33f, kMost = 1 - 0x1p-24f;
    const float uniform = std::min(static_cast<float>(bits) * kStep + kHalf, kMost);
    const Winner own{logit + -std::log(-std::log1p(-uniform)), id};
    return beats(own, other) ? own : other;
}

void draw(const DrawTask& task) {
    std::vector<std::optional<Row>> rows(task.rows);
    parallel_for(task.rows, [&](int64_t row) { rows[row].emplace(task, row); });
    // Where there are fewer rows than threads, several share one.
    const int64_t shares = task.rows >= threads() ? 1 : threads();
    std::vector<Winner> winners(task.rows * shares);
    parallel_for(task.rows * shares, [&](int64_t chunk) {
        const Row& row = *rows[chunk / shares];
        if (row.usable()) {
            const int64_t runs = (row.size() + kDrawRun - 1) / kDrawRun, share = chunk % shares;
            const int64_t first = runs * share / shares * kDrawRun, end = runs * (share + 1) / shares * kDrawRun;
            winners[chunk] = row.compete(first, std::min(end, row.size()));
        }
    });
    for (int64_t row = 0; row < task.rows; row++) {
        const auto first = winners.begin() + row * shares;
        const Winner winner = *std::min_element(first, first + shares, beats);
        task.ids[row] = rows[row]->usable() ? winner.id : static_cast<uint32_t>(task.width);
    }
}

}  // namespace glasschat::cpu
