// As much of CUDA as csrc/cuda uses, on the CPU: the kernels themselves are tested without a GPU.
//
// Blocks run one after the other. The threads of a block are contexts of one thread of the CPU,
// each of which runs until it waits for its warp or its block; every other launch goes through
// blocks, warps and lanes from the last to the first, so that a missing barrier shows as another
// result. A warp whose lanes wait for different things, and a barrier that is never reached, fail
// the launch. Not here: that threads run at once, memory order, limits of registers and shared
// memory.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda_runtime_api.h"

#define SMOOTHDISTILL_KERNELS_ON_CPU
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(threads)
// The blocks follow one another, so that one place serves them all.
#define __shared__ static

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// Of the thread that runs now.
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

constexpr int kWarpThreads = 32;
constexpr std::size_t kMostBytes = 16;  // of what lanes exchange

// Runs `body` once for each thread of each block; returns a cudaError_t.
int run(dim3 grid, int threads, void (*body)(const void*), const void* context);

template <class Body>
int run(dim3 grid, int threads, const Body& body) {
  return run(
      grid, threads, [](const void* context) { (*static_cast<const Body*>(context))(); }, &body);
}

void wait_for_block();
// Gives `value` to the lanes of this warp, waits for all of them, and takes that of `lane`.
void exchange(const void* value, void* taken, std::size_t size, int lane);

}  // namespace emulation

inline void __threadfence() {}
inline unsigned atomicInc(unsigned* address, unsigned most) {
  const unsigned old = *address;
  *address = old >= most ? 0 : old + 1;
  return old;
}
inline void __syncthreads() { emulation::wait_for_block(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  static_assert(sizeof(T) <= emulation::kMostBytes);
  T taken;
  const int lane = static_cast<int>(threadIdx.x) % emulation::kWarpThreads;
  emulation::exchange(&value, &taken, sizeof(T), lane ^ mask);
  return taken;
}

inline void __stwb(uint4* address, uint4 value) { *address = value; }
