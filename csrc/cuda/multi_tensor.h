// One launch for many tensors: a table of them travels by value with the launch, every block works
// on one chunk of one tensor.
//
// Contract: a kernel's parameters hold 4096 bytes, so a table takes kTableTensors and more of them
// take several launches, in order. Empty tensors take no place. Lengths and offsets are 64-bit. The
// first half is plain C++ and knows no device: tests run it, and the kernels' way of finding
// their chunk, on any machine (`_cuda.chunk_tables`).
#pragma once

#include <cstdint>

#include "device_number.h"
#include "elementwise.h"

namespace smoothdistill::cuda {

constexpr int kThreads = 256;
// 16 elements a thread in float32. Small, so that a network of a million weights fills a GPU.
constexpr std::int64_t kChunkElements = 4096;
constexpr std::int64_t kMaxChunks = 2147483647;  // of a launch: the limit of gridDim.x

constexpr int kParameterBytes = 4096;
constexpr int kOtherParameterBytes = 256;  // left for what a kernel takes besides the table

// For each tensor an entry and the number of its first chunk.
template <class Tensor>
constexpr int kTableTensors = (kParameterBytes - kOtherParameterBytes) /
                              static_cast<int>(sizeof(Tensor) + sizeof(std::int64_t));

// `Tensor` is any struct with a `length`, which is above 0 here.
template <class Tensor>
struct ChunkTable {
  Tensor tensors[kTableTensors<Tensor>];
  std::int64_t first_chunk[kTableTensors<Tensor> + 1];  // the last: how many chunks there are
  std::int64_t num_tensors;

  std::int64_t num_chunks() const { return first_chunk[num_tensors]; }
};

// The elements [begin, end) of the table's tensor number `slot`.
struct Chunk {
  int slot;
  std::int64_t begin;
  std::int64_t end;
};

template <class Tensor>
SD_MATH Chunk find_chunk(const ChunkTable<Tensor>& table, std::int64_t number) {
  int slot = 0, end = static_cast<int>(table.num_tensors);  // the tensor is in [slot, end)
  while (end - slot > 1) {
    const int middle = slot + (end - slot) / 2;
    if (table.first_chunk[middle] <= number) {
      slot = middle;
    } else {
      end = middle;
    }
  }
  const std::int64_t begin = (number - table.first_chunk[slot]) * kChunkElements;
  const std::int64_t left = table.tensors[slot].length - begin;
  return {slot, begin, begin + (left < kChunkElements ? left : kChunkElements)};
}

// Calls launch(table) for as many tables as the tensors tensor(0) ... tensor(num_tensors - 1) need;
// stops at the first that does not return 0 and returns that.
template <class Tensor, class GetTensor, class Launch>
int for_each_table(std::int64_t num_tensors, GetTensor tensor, Launch launch) {
  ChunkTable<Tensor> table{};
  for (std::int64_t i = 0; i < num_tensors; ++i) {
    const Tensor added = tensor(i);
    if (added.length == 0) continue;
    const std::int64_t slot = table.num_tensors++;
    const std::int64_t num_chunks =
        added.length / kChunkElements + (added.length % kChunkElements != 0);
    table.tensors[slot] = added;
    table.first_chunk[slot + 1] = table.first_chunk[slot] + num_chunks;
    if (table.num_tensors == kTableTensors<Tensor>) {
      if (const int status = launch(table)) return status;
      table.num_tensors = 0;
    }
  }
  return table.num_tensors == 0 ? 0 : launch(table);
}

#if defined(__CUDACC__) || defined(SMOOTHDISTILL_KERNELS_ON_CPU)

// `kWidth` neighbours that are read and written in one access.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T values[kWidth];
};

template <int kWidth, class T>
__device__ __forceinline__ Pack<T, kWidth> load(const T* address) {
  return *reinterpret_cast<const Pack<T, kWidth>*>(address);
}

// 16 bytes go through an intrinsic, which is an ordinary store: from plain code nvcc 13 makes four
// stores of 4 bytes in some kernels (seen in the PTX), for no reason that we found.
template <class T, int kWidth>
__device__ __forceinline__ void store(T* address, const Pack<T, kWidth>& pack) {
  if constexpr (sizeof(pack) == sizeof(uint4)) {
    __stwb(reinterpret_cast<uint4*>(address), __builtin_bit_cast(uint4, pack));
  } else {
    *reinterpret_cast<Pack<T, kWidth>*>(address) = pack;
  }
}

// Whether packs of `kWidth` may be read from `address` on; null may.
template <int kWidth, class T>
__device__ __forceinline__ bool is_aligned(const T* address) {
  return reinterpret_cast<std::uintptr_t>(address) % sizeof(Pack<T, kWidth>) == 0;
}

__device__ __forceinline__ double read(const DeviceNumber& number) {
  if (number.float32 != nullptr) return static_cast<double>(*number.float32);
  if (number.float64 != nullptr) return *number.float64;
  return number.value;
}

template <int kValue>
struct Width {
  static constexpr int value = kValue;
};

// The block's threads together: body(Width<kWidth>, i) for whole packs from i on, where the tensors
// are aligned, and body(Width<1>, i) for the single elements that are left. A chunk begins at a
// multiple of kChunkElements, so its packs are aligned where the tensor is.
template <int kWidth, class Body>
__device__ __forceinline__ void for_each_pack(const Chunk& chunk, bool aligned, Body body) {
  static_assert(kChunkElements % kWidth == 0);
  std::int64_t singles = chunk.begin;
  if (aligned) {
    singles += (chunk.end - chunk.begin) / kWidth * kWidth;
    for (std::int64_t i = chunk.begin + std::int64_t{kWidth} * threadIdx.x; i < singles;
         i += kWidth * kThreads) {
      body(Width<kWidth>{}, i);
    }
  }
  for (std::int64_t i = singles + threadIdx.x; i < chunk.end; i += kThreads) body(Width<1>{}, i);
}

#endif

}  // namespace smoothdistill::cuda
