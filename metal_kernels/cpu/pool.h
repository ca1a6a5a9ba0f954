// The threads that the kernels share.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace glasschat::cpu {

// Refers to something callable that outlives it: std::function without a copy on the heap.
template <class Signature>
class FunctionRef;

template <class Result, class... Arguments>
class FunctionRef<Result(Arguments...)> {
  public:
    template <class Callable>
        requires(!std::is_same_v<std::remove_cvref_t<Callable>, FunctionRef>)
    FunctionRef(Callable&& callable)  // NOLINT: meant to convert
        : object_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
          call_([](void* object, Arguments... arguments) -> Result {
              return (*static_cast<std::remove_reference_t<Callable>*>(object))(std::forward<Arguments>(arguments)...);
          }) {}

    Result operator()(Arguments... arguments) const { return call_(object_, std::forward<Arguments>(arguments)...); }

  private:
    void* object_;
    Result (*call_)(void*, Arguments...);
};

// Calls body(0) to body(chunks - 1), each once, on the pool's threads and on the caller's, and returns when all have
// returned. Chunks are handed out one by one in rising order to whichever thread is free, so take several for each
// thread. Where a chunk throws, chunks that have not begun are left out and the first exception is rethrown.
//
// Meant for one thread at a time. A call from inside a chunk, or beside another thread's call, runs in its caller alone.
void parallel_for(int64_t chunks, FunctionRef<void(int64_t)> body);

// Threads that work on a job, the caller included: the cores that this process may use, unless GLASSCHAT_THREADS or
// set_threads() say otherwise. Throws std::invalid_argument where the variable is no number from 1 to 1024.
int threads();

// Waits for a running job to end; not from inside a chunk. Throws std::invalid_argument outside of 1 to 1024.
void set_threads(int count);

}  // namespace glasschat::cpu
