// Puts the thread pool under stress: `pool_stress <what> <rounds>`. Ends with 0, or says what went wrong and ends with 1.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

// Holds a thread up now and then, at the points of the pool that are named so.
void hold_up() {
    thread_local std::minstd_rand random(std::hash<std::thread::id>{}(std::this_thread::get_id()));
    if (random() % 16 == 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 64));
    }
}
#define GLASSCHAT_POOL_PAUSE() ::hold_up()
#include "cpu/pool.cpp"

using glasschat::cpu::parallel_for;
using glasschat::cpu::set_threads;

namespace {

[[noreturn]] void fail(const std::string& what) {
    std::cerr << what << std::endl;
    std::_Exit(1);
}

void expect_once(const std::vector<int>& counts, const std::string& job) {
    for (std::size_t chunk = 0; chunk < counts.size(); chunk++) {
        if (counts[chunk] != 1) {
            fail(job + ": chunk " + std::to_string(chunk) + " ran " + std::to_string(counts[chunk]) + " times");
        }
    }
}

double cpu_seconds() {
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

// Work of up to `most` microseconds, so that threads meet in every phase of a job.
void work_a_little(std::minstd_rand& random, int most) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(random() % (1000 * most));
    while (std::chrono::steady_clock::now() < end) {
    }
}

// One job of `chunks`, each counted in plain ints: a race would be one for ThreadSanitizer, too.
void count_once(int chunks, const std::string& job) {
    std::vector<int> counts(chunks);
    parallel_for(chunks, [&](int64_t chunk) {
        std::minstd_rand random(chunk + 1);
        work_a_little(random, 3);
        counts[chunk]++;
    });
    expect_once(counts, job);
}

// Jobs of every size, one right after the other or after a pause in which workers fall asleep, on any number of threads.
void coverage(int rounds) {
    std::mt19937 random(7);
    for (int round = 0; round < rounds; round++) {
        if (round % 500 == 0) {
            set_threads(1 + random() % (round % 1000 ? 8 : 2));  // up to the cores of a small machine, they spin
        }
        const int chunks = random() % (random() % 8 ? 20 : 2000);
        count_once(chunks, "job " + std::to_string(round) + " of " + std::to_string(chunks) + " chunks");
        if (random() % 200 == 0) {
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
        }
    }
}

// Tiny jobs whose bodies differ: a thread that took a chunk of one for another would write into the wrong place.
void hand_over(int rounds) {
    for (int round = 0; round < rounds; round++) {
        if (round % (rounds / 6) == 0) {
            set_threads(2 + round / (rounds / 6) % 3);
        }
        std::vector<int> own(2 + round % 2);
        parallel_for(own.size(), [&own, round](int64_t chunk) {
            std::minstd_rand random(round + 1);
            work_a_little(random, 1);
            own[chunk] += round + 1;
        });
        for (const int value : own) {
            if (value != round + 1) {
                fail("job " + std::to_string(round) + " left " + std::to_string(value));
            }
        }
    }
}

// With chunks long enough to be worth it, all threads take some.
void shared_work(int rounds) {
    for (int round = 0; round < rounds; round++) {
        const int threads = 1 + round % 4;
        set_threads(threads);
        std::atomic<int> waiting{0};
        // Each chunk waits for all others: they can only end together, each on a thread of its own.
        parallel_for(threads, [&](int64_t) {
            waiting++;
            const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
            while (waiting < threads) {
                if (std::chrono::steady_clock::now() > end) {
                    fail(std::to_string(threads) + " chunks were not taken by as many threads");
                }
                std::this_thread::yield();
            }
        });
    }
}

void exceptions(int rounds) {
    set_threads(4);
    for (int round = 0; round < rounds; round++) {
        std::atomic<int> thrown{0};
        try {
            parallel_for(50, [&](int64_t chunk) {
                if (chunk % 7 == 3) {
                    thrown++;
                    throw std::runtime_error("chunk " + std::to_string(chunk));
                }
            });
            fail("no exception came through");
        } catch (const std::runtime_error& error) {
            if (std::string(error.what()).rfind("chunk ", 0) != 0 || thrown == 0) {
                fail(std::string("a different exception: ") + error.what());
            }
        }
        count_once(50, "the job after an exception");
    }
}

// What is not meant to be done, but must not go wrong: jobs inside of chunks, jobs of two threads, and a change of the
// number of threads beside them.
void misuse(int rounds) {
    set_threads(3);
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 2; caller++) {
        callers.emplace_back([rounds] {
            for (int round = 0; round < rounds; round++) {
                std::vector<int> counts(12);
                parallel_for(3, [&](int64_t outer) {
                    parallel_for(4, [&](int64_t inner) {
                        std::minstd_rand random(inner + 1);
                        work_a_little(random, 2);
                        counts[outer * 4 + inner]++;
                    });
                });
                expect_once(counts, "nested jobs");
            }
        });
    }
    for (int round = 0; round < rounds / 20; round++) {
        set_threads(1 + round % 4);
    }
    for (std::thread& caller : callers) {
        caller.join();
    }
}

// Workers that have nothing to do use no time.
void idle(int rounds) {
    set_threads(4);
    for (int round = 0; round < rounds; round++) {
        count_once(1000, "a job before idling");
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // beyond what they spin
        const double before = cpu_seconds();
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
        if (const double used = cpu_seconds() - before; used > 0.02) {
            fail("half a second of idling used " + std::to_string(used) + " s");
        }
    }
}

// A child has no workers of its parent's, and works and ends all the same.
void fork_child(int rounds) {
    set_threads(3);
    for (int round = 0; round < rounds; round++) {
        count_once(100, "a job before a fork");
        const pid_t child = fork();
        if (child == 0) {
            alarm(20);
            set_threads(1 + round % 4);
            count_once(100, "a job of a child");
            std::exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (status != 0) {
            fail("a child ended with status " + std::to_string(status));
        }
        count_once(100, "a job after a fork");
    }
}

}  // namespace

int main(int count, char** arguments) {
    const std::map<std::string, void (*)(int)> all{{"coverage", coverage}, {"hand_over", hand_over},
                                                   {"shared_work", shared_work}, {"exceptions", exceptions},
                                                   {"misuse", misuse}, {"idle", idle}, {"fork_child", fork_child}};
    const auto found = count == 3 ? all.find(arguments[1]) : all.end();
    if (found == all.end()) {
        fail("usage: pool_stress <what> <rounds>");
    }
    found->second(std::atoi(arguments[2]));
}
