// What the products of the tiles multiply: float32 numbers, or, in csrc/cpu/*.cpp as compiled for
// avx512_bf16, pairs of bfloat16 numbers, whose two products one instruction adds to a float32 sum.
// Included by csrc/cpu/*.cpp only, as vector.h is.
#pragma once

#include <cstdint>

#include "simd.h"
#include "vector.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace smoothdistill::cpu::SD_LEVEL {
namespace {

#if !defined(__AVX512BF16__)

using Factor = float;
using FactorVector = Vector;
constexpr std::int64_t kNumbers = 1;  // that a factor holds

#else

using Factor = BfloatPair;
using FactorVector = BfloatPair __attribute__((vector_size(kLanes * sizeof(BfloatPair))));
using UnalignedFactorVector
    __attribute__((vector_size(kLanes * sizeof(BfloatPair)), aligned(sizeof(BfloatPair)))) =
        BfloatPair;
constexpr std::int64_t kNumbers = 2;

SD_INLINE FactorVector load(const BfloatPair* from) {
  return *reinterpret_cast<const UnalignedFactorVector*>(from);
}

SD_INLINE FactorVector load_once(const BfloatPair* from) {
  FactorVector pairs = load(from);
  asm("" : "+v"(pairs));
  return pairs;
}

SD_INLINE void store(BfloatPair* to, FactorVector pairs) {
  *reinterpret_cast<UnalignedFactorVector*>(to) = pairs;
}

SD_INLINE FactorVector broadcast(BfloatPair pair) { return pair - FactorVector{}; }

// sum + the products of both numbers of each pair.
SD_INLINE void add_product(Vector& sum, FactorVector a, FactorVector b) {
  sum = (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

// Rounded to the nearest, to even where two are as near: (a0, a1), (a2, a3), ... and then b's.
SD_INLINE FactorVector neighbours(Vector a, Vector b) {
  return (FactorVector)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
}

// (a0, b0), (a1, b1), ...
SD_INLINE FactorVector pairs_of(Vector a, Vector b) {
  using Numbers = std::uint16_t __attribute__((vector_size(sizeof(FactorVector))));
  const auto both = (Numbers)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
  return (FactorVector)__builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21,
                                               6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                               13, 29, 14, 30, 15, 31);
}

// Of each row its neighbours as pairs, to[r * to_stride + k / 2] = (from[r * stride + k], ... k +
// 1); 0 beside the last of an odd number. Rounded to the nearest, to even where two are as near.
SD_INLINE void round_neighbours(const float* from, std::int64_t stride, std::int64_t rows,
                                std::int64_t size, BfloatPair* to, std::int64_t to_stride) {
  constexpr std::int64_t kStep = 2 * kLanes;
  for (std::int64_t r = 0; r < rows; ++r, from += stride, to += to_stride) {
    std::int64_t k = 0;
    for (; k + kStep <= size; k += kStep) {
      store(to + k / 2, neighbours(load(from + k), load(from + k + kLanes)));
    }
    if (k == size) continue;
    alignas(64) float rest[kStep] = {};
    alignas(64) BfloatPair pairs[kLanes];
    for (std::int64_t j = k; j < size; ++j) rest[j - k] = from[j];
    store(pairs, neighbours(load(rest), load(rest + kLanes)));
    for (std::int64_t j = k; j < size; j += 2) to[j / 2] = pairs[(j - k) / 2];
  }
}

// Of each two rows one of pairs: to[r / 2 * to_stride + k] = (from[r * stride + k], ... r + 1).
SD_INLINE void round_rows(const float* from, std::int64_t stride, std::int64_t rows,
                          std::int64_t size, BfloatPair* to, std::int64_t to_stride) {
  for (std::int64_t r = 0; r < rows; r += 2, from += 2 * stride, to += to_stride) {
    const float* next = from + stride;
    const bool has_next = r + 1 < rows;
    std::int64_t k = 0;
    for (; k + kLanes <= size; k += kLanes) {
      store(to + k, pairs_of(load(from + k), has_next ? load(next + k) : Vector{}));
    }
    if (k == size) continue;
    alignas(64) float first[kLanes] = {}, second[kLanes] = {};
    alignas(64) BfloatPair pairs[kLanes];
    for (std::int64_t j = k; j < size; ++j) {
      first[j - k] = from[j];
      if (has_next) second[j - k] = next[j];
    }
    store(pairs, pairs_of(load(first), load(second)));
    for (std::int64_t j = k; j < size; ++j) to[j] = pairs[j - k];
  }
}

#endif

constexpr std::int64_t factors_of(std::int64_t numbers) {
  return (numbers + kNumbers - 1) / kNumbers;
}

}  // namespace
}  // namespace smoothdistill::cpu::SD_LEVEL
