// The threads of a block, as contexts that are entered in turn: see cuda_runtime.h.
#include <setjmp.h>
#include <ucontext.h>

#include <vector>

#include "cuda_runtime.h"

namespace emulation {
namespace {

enum class State { kReady, kWaitsForWarp, kWaitsForBlock, kDone };

constexpr std::size_t kStackBytes = 64 * 1024;

struct Thread {
  State state;
  bool has_begun;
  int num_exchanges;
  ucontext_t start;  // how it is entered first; `jump` is how later, without a call of the system
  jmp_buf jump;
  std::vector<char> stack;
  alignas(kMostBytes) unsigned char given[2][kMostBytes];  // of even and odd exchanges
};

std::vector<Thread> threads;
int num_threads, current;
bool is_backward = true, must_begin_anew = false;
jmp_buf scheduler;
void (*body)(const void*);
const void* context;

[[gnu::noinline]] void wait(State state) {
  Thread& thread = threads[static_cast<std::size_t>(current)];
  thread.state = state;
  if (_setjmp(thread.jump) == 0) _longjmp(scheduler, 1);
}

// What a context does, block after block and launch after launch.
void live() {
  while (true) {
    body(context);
    wait(State::kDone);
  }
}

// Runs a thread until it waits or ends.
[[gnu::noinline]] void enter(int number) {
  Thread& thread = threads[static_cast<std::size_t>(number)];
  current = number;
  threadIdx = dim3(static_cast<unsigned>(number));
  if (_setjmp(scheduler) != 0) return;
  if (thread.has_begun) _longjmp(thread.jump, 1);
  thread.has_begun = true;
  setcontext(&thread.start);
}

// The n-th of `size` things in the order of this launch.
int in_order(int n, int size) { return is_backward ? size - 1 - n : n; }

// Runs the lanes of a warp until all wait for the block or are done.
bool run_warp(int first, int size) {
  while (true) {
    int num_waiting = 0;
    for (int n = 0; n < size; ++n) {
      const int number = first + in_order(n, size);
      Thread& thread = threads[static_cast<std::size_t>(number)];
      if (thread.state == State::kReady) enter(number);
      num_waiting += thread.state == State::kWaitsForWarp;
    }
    if (num_waiting == 0) return true;
    if (num_waiting < kWarpThreads) return false;
    for (int lane = 0; lane < size; ++lane) {
      threads[static_cast<std::size_t>(first + lane)].state = State::kReady;
    }
  }
}

[[gnu::noinline]] void prepare(Thread& thread) {
  thread.has_begun = false;
  getcontext(&thread.start);
  thread.stack.resize(kStackBytes);
  thread.start.uc_stack.ss_sp = thread.stack.data();
  thread.start.uc_stack.ss_size = kStackBytes;
  thread.start.uc_link = nullptr;
  makecontext(&thread.start, live, 0);
}

bool run_block() {
  for (int number = 0; number < num_threads; ++number) {
    threads[static_cast<std::size_t>(number)].state = State::kReady;
  }
  const int num_warps = (num_threads + kWarpThreads - 1) / kWarpThreads;
  while (true) {
    for (int n = 0; n < num_warps; ++n) {
      const int first = in_order(n, num_warps) * kWarpThreads;
      const int left = num_threads - first;
      if (!run_warp(first, left < kWarpThreads ? left : kWarpThreads)) return false;
    }
    int num_waiting = 0;
    for (int number = 0; number < num_threads; ++number) {
      Thread& thread = threads[static_cast<std::size_t>(number)];
      if (thread.state != State::kWaitsForBlock) continue;
      thread.state = State::kReady;
      ++num_waiting;
    }
    if (num_waiting == 0) return true;
  }
}

}  // namespace

int run(dim3 grid, int threads_of_block, void (*run_body)(const void*), const void* run_context) {
  body = run_body;
  context = run_context;
  num_threads = threads_of_block;
  if (threads.size() < static_cast<std::size_t>(num_threads) || must_begin_anew) {
    threads = std::vector<Thread>(static_cast<std::size_t>(num_threads));
    for (Thread& thread : threads) prepare(thread);
    must_begin_anew = false;
  }
  is_backward = !is_backward;
  blockDim = dim3(static_cast<unsigned>(num_threads));
  gridDim = grid;
  const auto num_blocks = static_cast<int>(grid.x * grid.y);
  for (int n = 0; n < num_blocks; ++n) {
    const auto number = static_cast<unsigned>(in_order(n, num_blocks));
    blockIdx = dim3(number % grid.x, number / grid.x);
    if (run_block()) continue;
    must_begin_anew = true;  // its threads have been left where they wait
    return cudaErrorLaunchFailure;
  }
  return cudaSuccess;
}

void wait_for_block() { wait(State::kWaitsForBlock); }

void exchange(const void* value, void* taken, std::size_t size, int lane) {
  Thread& mine = threads[static_cast<std::size_t>(current)];
  // Two places by turns: nobody gives again before all have taken what was given before.
  const int place = mine.num_exchanges++ % 2;
  const int number = current - current % kWarpThreads + lane;
  std::memcpy(mine.given[place], value, size);
  wait(State::kWaitsForWarp);
  std::memcpy(taken, threads[static_cast<std::size_t>(number)].given[place], size);
}

}  // namespace emulation
