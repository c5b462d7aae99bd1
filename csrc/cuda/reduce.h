// Sums and maxima over the lanes of a warp and the threads of a block, always in the same order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "elementwise.h"

namespace smoothdistill::cuda {

constexpr int kWarpThreads = 32;
constexpr unsigned kAllLanes = 0xffffffffU;

template <int kValue>
struct Lanes {
  static constexpr int value = kValue;
};

// Lanes that share a row of so many numbers.
SD_MATH int num_lanes(std::int64_t length) {
  return length <= 4 ? 4 : length <= 8 ? 8 : length <= 16 ? 16 : 32;
}

// body(Lanes<n>) with n = `lanes`, which is alike in all threads of a warp.
template <class Body>
__device__ __forceinline__ void with_lanes(int lanes, Body body) {
  switch (lanes) {
    case 4:
      return body(Lanes<4>{});
    case 8:
      return body(Lanes<8>{});
    case 16:
      return body(Lanes<16>{});
    default:
      return body(Lanes<kWarpThreads>{});
  }
}

// The sum over a group of neighbouring lanes, the same bits in each (an addition commutes). All
// lanes of the warp must call it.
template <int kLanes, class T>
__device__ __forceinline__ T group_sum(T value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

template <int kLanes, class T>
__device__ __forceinline__ T group_max(T value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

// The sum over the groups of a warp of what the lanes of each have alike, in all lanes. All lanes
// of the warp must call it.
template <int kLanes, class T>
__device__ __forceinline__ T sum_of_groups(T value) {
#pragma unroll
  for (int offset = kLanes; offset < kWarpThreads; offset *= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

// The sum over a block, in every thread. Every thread of the block must call it.
template <int kBlockThreads, class T>
__device__ __forceinline__ T block_sum(T value) {
  constexpr int kWarps = kBlockThreads / kWarpThreads;
  __shared__ T by_warp[kWarps];
  value = group_sum<kWarpThreads>(value);
  if (threadIdx.x % kWarpThreads == 0) by_warp[threadIdx.x / kWarpThreads] = value;
  __syncthreads();
  const auto lane = static_cast<int>(threadIdx.x % kWarpThreads);
  const T sum = group_sum<kWarpThreads>(lane < kWarps ? by_warp[lane] : T(0));
  __syncthreads();  // the next call writes to the same memory
  return sum;
}

}  // namespace smoothdistill::cuda
