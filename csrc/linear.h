// linear: the three matrix products of a linear layer, over a batch in columns (see columns.h).
//   forward         y = weight x + bias, then optionally max(y, 0)
//   backward_input  dx = weight^T dy, then optionally 0 where the layer below was closed (gate is
//                   not above 0)
//   backward_weight dw = sum over windows of dy x^T, db = sum of dy; or, in place of writing dw,
//                   Adam and EMA of the weight (adam_ema.h) while its rows of dw are in the cache
// Source: definition. The layout lets one register tile serve all three without packing weights.
// The same of numbers rounded to bfloat16, with sums in float32, where the processor multiplies
// these: x and dy come as pairs, weights are rounded as they are read.
// Contract: float32, contiguous, no overlap; sums in float32 in an order that depends neither on
// the number of threads nor on the other windows of the batch. Work is cut by blocks and by ranges
// of rows (forward, backward_weight) or of input features (backward_input).
// There is no CUDA twin: on a GPU cuBLAS does this.
#pragma once

#include <cstdint>

#include "adam_ema.h"
#include "columns.h"
#include "simd.h"

namespace smoothdistill {

struct LinearShape {
  std::int64_t in_features;
  std::int64_t out_features;
  std::int64_t blocks;
  std::int64_t columns;
};

// Panels of x that `linear_backward_weight` reads; see `linear_pack`. Of pairs, half as many.
constexpr std::int64_t linear_panel_floats(const LinearShape& shape) {
  return (shape.in_features + 63) / 64 * 64 * shape.blocks * shape.columns;
}

// The kernels of one instruction set. Factor: float; or BfloatPair, a pair of features (forward),
// of outputs (backward_input) or of windows (backward_weight), with 0 beside the last of an odd
// number.
#define SD_LINEAR_KERNELS(Factor)                                                                 \
  void linear_forward(const LinearShape& shape, const float* weight, const float* bias,           \
                      const Factor* x, bool relu, float* y, std::int64_t block,                   \
                      std::int64_t row_begin, std::int64_t row_end);                              \
  /* gate: the output of the layer below, or null. accumulates: adds to what dx holds. */         \
  void linear_backward_input(const LinearShape& shape, const float* weight, const Factor* dy,     \
                             const float* gate, bool accumulates, float* dx, std::int64_t block,  \
                             std::int64_t begin, std::int64_t end);                               \
  /* x with the windows outermost, in panels of features: what the product with dy reads. */      \
  void linear_pack(const LinearShape& shape, const float* x, Factor* panels, std::int64_t block); \
  /* Either `dw` is written, or `update` (whose gradient is not used) is stepped. */              \
  void linear_backward_weight(const LinearShape& shape, const Factor* dy, const Factor* panels,   \
                              float* dw, const AdamSpan<float>* update, double decay,             \
                              std::int64_t row_begin, std::int64_t row_end);

namespace cpu {

SD_PER_LEVEL(SD_LINEAR_KERNELS(float) void linear_backward_bias(const LinearShape& shape,
                                                                const float* dy, float* db,
                                                                std::int64_t row_begin,
                                                                std::int64_t row_end);)

#if defined(SMOOTHDISTILL_HAS_X86_LEVELS)
namespace avx512_bf16 {
SD_LINEAR_KERNELS(BfloatPair)
// An even number of neighbours as pairs; and [rows, size] as pairs of rows, [(rows + 1) / 2, size].
// Rounded to the nearest, to even where two are as near.
void linear_pair_neighbours(const float* from, std::int64_t size, BfloatPair* to);
void linear_pair_rows(const float* from, std::int64_t rows, std::int64_t size, BfloatPair* to);
using avx512::adam_ema;
}  // namespace avx512_bf16
#endif

}  // namespace cpu
}  // namespace smoothdistill
