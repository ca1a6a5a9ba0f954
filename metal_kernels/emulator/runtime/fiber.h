// Switching between the stacks of GPU threads.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(EMULATOR_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#define EMULATOR_PORTABLE_SWITCH 1
#include <ucontext.h>
#endif

namespace emulator {

#ifdef EMULATOR_PORTABLE_SWITCH

// POSIX's own switch: right everywhere, but it calls the kernel each time.
class Context {
   public:
    void start(char* stack, size_t size, void (*entry)()) {
        getcontext(&context_);
        context_.uc_stack.ss_sp = stack;
        context_.uc_stack.ss_size = size;
        context_.uc_link = nullptr;
        makecontext(&context_, entry, 0);
    }
    void switch_to(Context& other) { swapcontext(&context_, &other.context_); }

   private:
    ucontext_t context_;
};

#else

extern "C" void emu_switch(void** save, void* to);

// How many words a switch saves, and which of them is where it returns to.
#if defined(__x86_64__)
constexpr int kSavedWords = 7, kReturnWord = 6;
#else
constexpr int kSavedWords = 20, kReturnWord = 11;
#endif

class Context {
   public:
    void start(char* stack, size_t size, void (*entry)()) {
        // x86-64 expects 8 modulo 16 in a function's first instruction: what the call would have pushed.
        constexpr size_t pushed = kSavedWords % 2 ? sizeof(void*) : 0;
        auto** top = reinterpret_cast<void**>(stack + size - pushed) - kSavedWords;
        std::memset(top, 0, kSavedWords * sizeof(void*));
        top[kReturnWord] = reinterpret_cast<void*>(entry);
        stack_pointer_ = top;
    }
    void switch_to(Context& other) { emu_switch(&stack_pointer_, other.stack_pointer_); }

   private:
    void* stack_pointer_ = nullptr;
};

#endif

}  // namespace emulator
