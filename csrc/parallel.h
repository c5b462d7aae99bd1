// Threads: none of our own. PyTorch's pool is borrowed through its stable C function
// `torch_parallel_for` (so `torch.set_num_threads` is obeyed and no second runtime is loaded);
// without it, and for little work, everything runs on the calling thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <stdexcept>

namespace smoothdistill {

using ParallelBody = void (*)(std::int64_t begin, std::int64_t end, void* context);
using ParallelExecutor = std::int32_t (*)(std::int64_t begin, std::int64_t end, std::int64_t grain,
                                          ParallelBody body, void* context);

extern ParallelExecutor parallel_executor;

// Waking a second thread costs about 20 us; fewer elements than this are done sooner by one.
constexpr std::int64_t kParallelGrain = 131072;

// Calls body(begin, end) on disjoint ranges that cover [0, size); ranges hold at least `grain`.
// Throws what the body throws, the first of several, once all threads have come back.
template <class Body>
void parallel_for(std::int64_t size, std::int64_t grain, Body body) {
  if (parallel_executor == nullptr || size <= grain) {
    body(std::int64_t{0}, size);
    return;
  }
  struct Call {
    Body& body;
    std::atomic_flag failed;
    std::exception_ptr error;
  } call{body, {}, nullptr};
  const std::int32_t status = parallel_executor(
      0, size, grain,
      [](std::int64_t begin, std::int64_t end, void* context) {
        Call& call = *static_cast<Call*>(context);
        try {  // a C function, between here and there, passes no exception on
          call.body(begin, end);
        } catch (...) {
          if (!call.failed.test_and_set()) call.error = std::current_exception();
        }
      },
      &call);
  if (call.error) std::rethrow_exception(call.error);
  if (status != 0) throw std::runtime_error("PyTorch's thread pool could not be used.");
}

// Walks the concatenation of `num_spans` tensors: calls body(span, begin, end) with the elements
// [begin, end) of each tensor that fall into a thread's share of all elements.
template <class Length, class Body>
void parallel_for_spans(std::int64_t num_spans, Length length, Body body) {
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < num_spans; ++i) total += length(i);
  parallel_for(total, kParallelGrain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t first = 0;
    for (std::int64_t i = 0; i < num_spans && first < end; ++i) {
      const std::int64_t last = first + length(i);
      if (last > begin) {
        const std::int64_t from = begin > first ? begin - first : 0;
        const std::int64_t to = end < last ? end - first : last - first;
        if (to > from) body(i, from, to);
      }
      first = last;
    }
  });
}

}  // namespace smoothdistill
