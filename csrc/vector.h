// Vectors as wide as the level's registers, for the kernels whose tiles must stay in registers.
// Included by csrc/cpu/*.cpp only: everything is in the level's own namespace (NOTE [No inline
// library code in kernels] in simd.h). GCC and Clang compile the same lines to SSE2, AVX2, AVX-512
// and NEON.
#pragma once

#include <cstdint>

// Before a loop with a constant number of turns: its turns become straight code, and an array that
// it indexes becomes registers.
#if defined(__clang__)
#define SD_UNROLL _Pragma("unroll")
#else
#define SD_UNROLL _Pragma("GCC unroll 32")
#endif
// Makes of a computed address one register, from which near ones are displacements.
#define SD_KEEP_POINTER(pointer) asm("" : "+r"(pointer))
#define SD_INLINE inline __attribute__((always_inline))

namespace smoothdistill::cpu::SD_LEVEL {
namespace {

#if defined(__AVX512F__)
constexpr std::int64_t kLanes = 16;
constexpr bool kHasManyRegisters = true;  // 32, where the others have 16
#elif defined(__AVX__)
constexpr std::int64_t kLanes = 8;
constexpr bool kHasManyRegisters = false;
#else
constexpr std::int64_t kLanes = 4;
#if defined(__aarch64__)
constexpr bool kHasManyRegisters = true;
#else
constexpr bool kHasManyRegisters = false;
#endif
#endif

using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));
using UnalignedVector __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)))) =
    float;

SD_INLINE Vector load(const float* from) { return *reinterpret_cast<const UnalignedVector*>(from); }

SD_INLINE void store(float* to, Vector values) { *reinterpret_cast<UnalignedVector*>(to) = values; }

SD_INLINE Vector broadcast(float value) { return value - Vector{}; }

// a * b + c of each lane; contracted to one instruction where the level has it.
SD_INLINE void add_product(Vector& sum, Vector a, Vector b) { sum += a * b; }

// Loads into a register for good. Left alone, GCC reads the memory again for every product of a
// tile, and three loads a product make the loads the bottleneck (a conv_pool took 1.7 times as
// long).
SD_INLINE Vector load_once(const float* from) {
  Vector values = load(from);
#if defined(__x86_64__)
  asm("" : "+v"(values));
#elif defined(__aarch64__)
  asm("" : "+w"(values));
#endif
  return values;
}

// sum[v] += factor * the vectors that lie at `from`, one after another.
template <int Size>
SD_INLINE void add_products_of(const float* from, Vector factor, Vector (&sum)[Size]) {
#if defined(__aarch64__)
  // Some at a time into registers of their own: two are loaded by one instruction, and a processor
  // that executes in order does not wait for each. x86 multiplies what lies in memory.
  constexpr int kAtOnce = 4;
  SD_UNROLL for (int first = 0; first < Size; first += kAtOnce) {
    Vector values[kAtOnce];
    SD_UNROLL for (int v = 0; v < kAtOnce; ++v) {
      if (first + v < Size) values[v] = load_once(from + (first + v) * kLanes);
    }
    SD_UNROLL for (int v = 0; v < kAtOnce; ++v) {
      if (first + v < Size) add_product(sum[first + v], factor, values[v]);
    }
  }
#else
  SD_UNROLL for (int v = 0; v < Size; ++v) add_product(sum[v], factor, load(from + v * kLanes));
#endif
}

// The first halves of both, lane by lane in turn, and the second halves.
SD_INLINE Vector interleave_first(Vector a, Vector b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif defined(__AVX__)
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
#endif
}

SD_INLINE Vector interleave_second(Vector a, Vector b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                 31);
#elif defined(__AVX__)
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

// to[c * to_stride + r] = from[r * from_stride + c] of `rows` x `columns` elements. Whole tiles are
// turned in registers (a perfect shuffle, as many times as 2 goes into the lanes); element by
// element this took 6 times as long.
inline void transpose(const float* from, std::int64_t from_stride, std::int64_t rows,
                      std::int64_t columns, float* to, std::int64_t to_stride) {
  const std::int64_t whole_rows = rows / kLanes * kLanes;
  const std::int64_t whole_columns = columns / kLanes * kLanes;
  for (std::int64_t r = 0; r < whole_rows; r += kLanes) {
    for (std::int64_t c = 0; c < whole_columns; c += kLanes) {
      Vector tile[kLanes];
      SD_UNROLL for (int i = 0; i < kLanes; ++i) tile[i] = load(from + (r + i) * from_stride + c);
      SD_UNROLL for (int step = 1; step < kLanes; step *= 2) {
        Vector shuffled[kLanes];
        SD_UNROLL for (int i = 0; i < kLanes / 2; ++i) {
          shuffled[2 * i] = interleave_first(tile[i], tile[i + kLanes / 2]);
          shuffled[2 * i + 1] = interleave_second(tile[i], tile[i + kLanes / 2]);
        }
        SD_UNROLL for (int i = 0; i < kLanes; ++i) tile[i] = shuffled[i];
      }
      SD_UNROLL for (int i = 0; i < kLanes; ++i) store(to + (c + i) * to_stride + r, tile[i]);
    }
  }
  // What is left, in loops that are not entered where nothing is: one loop over all of the rows
  // prepared the addresses of no elements for longer than a tile takes to be turned.
  for (std::int64_t r = 0; whole_columns < columns && r < whole_rows; ++r) {
    for (std::int64_t c = whole_columns; c < columns; ++c) {
      to[c * to_stride + r] = from[r * from_stride + c];
    }
  }
  for (std::int64_t r = whole_rows; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

// A register tile holds up to this many vectors of columns, and as many rows as registers are left
// for: one register for each of the columns, one for the broadcast row.
constexpr int kMaxColumns = kHasManyRegisters ? 4 : 2;

constexpr int tile_rows(int columns) {
  if (kHasManyRegisters) return columns == 4 ? 6 : columns == 3 ? 8 : columns == 2 ? 12 : 16;
  return columns == 2 ? 6 : 10;
}

// The largest tile width that divides a block of so many vectors of columns.
SD_INLINE int tile_columns(std::int64_t num_vectors) {
  for (int columns = kMaxColumns; columns > 1; --columns) {
    if (num_vectors % columns == 0) return columns;
  }
  return 1;
}

}  // namespace
}  // namespace smoothdistill::cpu::SD_LEVEL
