#include "cpu/pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

// Where a thread that is held up could do the most harm. The stress test holds some up here.
#ifndef GLASSCHAT_POOL_PAUSE
#define GLASSCHAT_POOL_PAUSE()
#endif

namespace glasschat::cpu {

namespace {

using Body = FunctionRef<void(int64_t)>;

constexpr int kMostThreads = 1024;

// How long a thread without work keeps its core: longer than the gaps between the operations of a step (tens of
// microseconds), since waking a sleeper costs about as much as a small operation; short enough to be idle when idle.
constexpr std::chrono::microseconds kSpin{150};

int cores() {
#if defined(__linux__)
    cpu_set_t mine;
    if (sched_getaffinity(0, sizeof mine, &mine) == 0) {
        return CPU_COUNT(&mine);
    }
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Whether `met` became true within `limit`.
template <class Condition>
bool spin_until(Condition met, std::chrono::microseconds limit) {
    const auto end = std::chrono::steady_clock::now() + limit;
    do {
        for (int i = 0; i < 32; i++) {  // reading the clock costs more than a look
            if (met()) {
                return true;
            }
            relax();
        }
    } while (std::chrono::steady_clock::now() < end);
    return false;
}

// One job at a time, in one slot that the next job uses again.
//
// `ticket_` is the slot's lock, in one word: the job's number above, the chunks not yet taken below. A thread takes a
// chunk by exchanging (g, r) for (g, r - 1). That a late thread can not take a chunk of one job for the body of another:
//
//   - It loads the ticket, (g, r) with r > 0, then `body_` and `chunks_`, then exchanges. The load synchronises with the
//     store that opened job g (exchanges by other threads continue its release sequence), so it sees the body of g or a
//     later one.
//   - Tickets never repeat (numbers wrap around after 2^32 jobs, at a million a second more than an hour, in which a
//     thread would have to be stuck between two instructions). So if the exchange succeeds, nobody had taken this chunk
//     before. Job g could not end without it, and run() writes `body_` and `chunks_` only after the job before has
//     ended: what was loaded was the body of g, and its caller is still waiting in run().
//   - If the exchange fails, what was loaded is dropped unused.
//
// A job has ended when `pending_`, the chunks not yet finished, is zero. Threads are not counted: one that was
// preempted before it took a chunk has nothing that the caller could wait for.
class Pool {
  public:
    explicit Pool(int threads) : spin_(threads <= cores() ? kSpin : std::chrono::microseconds{0}) {
        workers_.reserve(threads - 1);
        try {
            while (static_cast<int>(workers_.size()) < threads - 1) {
                workers_.emplace_back([this] { work(); });
            }
        } catch (const std::system_error&) {
            // The system gives no more threads. Those there are will do all the work.
        }
    }

    // With no job running.
    ~Pool() {
        stopping_.store(true);
        signal_.fetch_add(1);
        signal_.notify_all();
        for (std::thread& worker : workers_) {
            worker.join();
        }
    }

    void run(uint32_t chunks, const Body& body) {
        body_.store(&body, std::memory_order_relaxed);
        chunks_.store(chunks, std::memory_order_relaxed);
        pending_.store(chunks, std::memory_order_relaxed);
        number_++;
        ticket_.store(uint64_t{number_} << 32 | chunks);
        wake(chunks - 1);
        take_chunks();
        wait_for_the_last();
        if (failed_.load(std::memory_order_relaxed)) {
            failed_.store(false, std::memory_order_relaxed);
            std::rethrow_exception(std::exchange(error_, nullptr));
        }
    }

  private:
    static uint32_t untaken(uint64_t ticket) { return static_cast<uint32_t>(ticket); }

    void work() {
        while (!stopping_.load()) {
            take_chunks();
            wait_for_a_job();
        }
    }

    void take_chunks() {
        uint64_t ticket = ticket_.load(std::memory_order_acquire);
        while (untaken(ticket) > 0) {
            const Body* body = body_.load(std::memory_order_relaxed);
            const uint32_t chunks = chunks_.load(std::memory_order_relaxed);
            GLASSCHAT_POOL_PAUSE();
            if (ticket_.compare_exchange_weak(
                    ticket, ticket - 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
                execute(*body, chunks - untaken(ticket));
                ticket = ticket_.load(std::memory_order_acquire);
            }
        }
    }

    void execute(const Body& body, int64_t chunk) {
        if (!failed_.load(std::memory_order_relaxed)) {
            try {
                body(chunk);
            } catch (...) {
                if (!failed_.exchange(true, std::memory_order_relaxed)) {
                    error_ = std::current_exception();
                }
            }
        }
        if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            pending_.notify_one();
        }
    }

    void wait_for_the_last() {
        const auto ended = [this] { return pending_.load(std::memory_order_acquire) == 0; };
        if (spin_until(ended, spin_)) {
            return;
        }
        while (const uint32_t left = pending_.load(std::memory_order_acquire)) {
            GLASSCHAT_POOL_PAUSE();
            pending_.wait(left, std::memory_order_acquire);
        }
    }

    void wait_for_a_job() {
        const auto called = [this] { return untaken(ticket_.load()) > 0 || stopping_.load(); };
        if (spin_until(called, spin_)) {
            return;
        }
        // This thread counts itself among the sleepers, then looks at the ticket; run() writes the ticket, then looks at
        // the sleepers. All four are sequentially consistent, so one of the two sees the other. And a signal between the
        // look and the wait has changed the value that is waited on.
        const uint32_t signal = signal_.load();
        GLASSCHAT_POOL_PAUSE();
        sleepers_.fetch_add(1);
        if (!called()) {
            GLASSCHAT_POOL_PAUSE();
            signal_.wait(signal);
        }
        sleepers_.fetch_sub(1);
    }

    // At most `wanted` of the sleeping workers.
    void wake(uint32_t wanted) {
        const uint32_t sleepers = sleepers_.load();
        if (sleepers == 0) {
            return;
        }
        signal_.fetch_add(1);
        if (wanted >= sleepers) {
            signal_.notify_all();
            return;
        }
        for (uint32_t i = 0; i < wanted; i++) {
            signal_.notify_one();
        }
    }

    // What changes with every chunk has cache lines of its own.
    alignas(128) std::atomic<uint64_t> ticket_{0};
    alignas(128) std::atomic<uint32_t> pending_{0};
    alignas(128) std::atomic<const Body*> body_{nullptr};
    std::atomic<uint32_t> chunks_{0};
    std::atomic<bool> failed_{false};
    std::exception_ptr error_;  // written by the thread that sets failed_, read when the job has ended
    uint32_t number_ = 0;
    alignas(128) std::atomic<uint32_t> signal_{0};
    std::atomic<uint32_t> sleepers_{0};
    std::atomic<bool> stopping_{false};
    const std::chrono::microseconds spin_;
    std::vector<std::thread> workers_;
};

int check(int64_t count, const std::string& asked_by) {
    if (count < 1 || count > kMostThreads) {
        throw std::invalid_argument(asked_by + " is not a number of threads from 1 to " + std::to_string(kMostThreads));
    }
    return static_cast<int>(count);
}

int from_environment() {
    const char* wanted = std::getenv("GLASSCHAT_THREADS");
    if (!wanted || !*wanted) {
        return std::min(cores(), kMostThreads);
    }
    const char* end = wanted + std::strlen(wanted);
    int count = 0;
    const auto [stop, error] = std::from_chars(wanted, end, count);
    return check(error == std::errc{} && stop == end ? count : 0, "GLASSCHAT_THREADS=" + std::string(wanted));
}

// Never destroyed, and neither is the pool in it: when the process ends, its workers sleep or spin on memory that is
// still there, and nothing waits for them.
struct Shared {
    std::atomic<int> threads{from_environment()};
    std::atomic<bool> busy{false};  // held by the thread that runs a job or replaces the pool
    Pool* pool = nullptr;           // made for the first job

    Shared() {
        // A forked child has the pool's memory without its threads. It leaves that behind and makes a pool of its own.
        pthread_atfork(nullptr, nullptr, [] {
            shared().pool = nullptr;
            shared().busy.store(false);
        });
    }

    static Shared& shared() {
        static Shared instance;
        return instance;
    }
};

static_assert(std::is_trivially_destructible_v<Shared>);

// Holds Shared::busy, if it was free.
class Claim {
  public:
    explicit Claim(Shared& shared) : shared_(shared), held_(!shared.busy.exchange(true, std::memory_order_acquire)) {}
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    ~Claim() {
        if (held_) {
            shared_.busy.store(false, std::memory_order_release);
        }
    }
    explicit operator bool() const { return held_; }

  private:
    Shared& shared_;
    const bool held_;
};

}  // namespace

void parallel_for(int64_t chunks, FunctionRef<void(int64_t)> body) {
    if (chunks > std::numeric_limits<uint32_t>::max()) {
        throw std::invalid_argument(std::to_string(chunks) + " chunks are more than a job can have");
    }
    if (chunks > 1 && threads() > 1) {
        Shared& shared = Shared::shared();
        if (const Claim claim(shared); claim) {
            if (!shared.pool) {
                shared.pool = new Pool(threads());
            }
            shared.pool->run(static_cast<uint32_t>(chunks), body);
            return;
        }
    }
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        body(chunk);
    }
}

int threads() {
    return Shared::shared().threads.load(std::memory_order_relaxed);
}

void set_threads(int count) {
    check(count, std::to_string(count));
    Shared& shared = Shared::shared();
    while (true) {
        if (const Claim claim(shared); claim) {
            if (count != threads()) {
                delete std::exchange(shared.pool, nullptr);
                shared.threads.store(count, std::memory_order_relaxed);
            }
            return;
        }
        std::this_thread::yield();
    }
}

}  // namespace glasschat::cpu
