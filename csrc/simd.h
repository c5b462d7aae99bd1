// One source, several instruction sets: every csrc/cpu/*.cpp is compiled once per level, each time
// into its own namespace, and the level is chosen at run time (SMOOTHDISTILL_SIMD overrides it).
//
// NOTE [No inline library code in kernels]
// A kernel file calls nothing from the C++ library, and what it shares (elementwise.h) has internal
// linkage. Otherwise the linker could keep the AVX-512 copy of an inline function for all levels,
// and an older processor would die of it.
#pragma once

#include <cstdint>

namespace smoothdistill {

// Two bfloat16 numbers (upper halves of float32), the first in the low half: what a lane of a dot
// product takes. Kernels of these are in the namespace cpu::avx512_bf16, beside the levels below,
// for processors that have AVX512_BF16.
using BfloatPair = std::uint32_t;

enum class SimdLevel { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The level in force, which `set_simd_level` may lower.
extern SimdLevel simd_level;

}  // namespace smoothdistill

#if defined(SMOOTHDISTILL_HAS_X86_LEVELS)
// Declares one kernel in every level's namespace.
#define SD_PER_LEVEL(...) \
  namespace baseline {    \
  __VA_ARGS__             \
  }                       \
  namespace avx2 {        \
  __VA_ARGS__             \
  }                       \
  namespace avx512 {      \
  __VA_ARGS__             \
  }
// Calls `function(arguments...)` of the level in force.
#define SD_CALL(function, ...)                                        \
  (::smoothdistill::simd_level == ::smoothdistill::SimdLevel::kAvx512 \
       ? ::smoothdistill::cpu::avx512::function(__VA_ARGS__)          \
   : ::smoothdistill::simd_level == ::smoothdistill::SimdLevel::kAvx2 \
       ? ::smoothdistill::cpu::avx2::function(__VA_ARGS__)            \
       : ::smoothdistill::cpu::baseline::function(__VA_ARGS__))
#else
#define SD_PER_LEVEL(...) \
  namespace baseline {    \
  __VA_ARGS__             \
  }
#define SD_CALL(function, ...) (::smoothdistill::cpu::baseline::function(__VA_ARGS__))
#endif
