// linear: the three matrix products of a linear layer, over a batch in columns (see columns.h).
//   forward         y = weight x + bias, then optionally max(y, 0)
//   backward_input  dx = weight^T dy, then optionally 0 where the layer below was closed (gate <=
//   0) backward_weight dw = sum over windows of dy x^T, db = sum of dy; or, in place of writing dw,
//                   Adam and EMA of the weight (adam_ema.h) while its rows of dw are in the cache
// Source: definition. The layout lets one register tile serve all three without packing weights.
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

// Panels of x that `linear_backward_weight` reads; see `linear_pack`.
constexpr std::int64_t linear_panel_floats(const LinearShape& shape) {
  return (shape.in_features + 63) / 64 * 64 * shape.blocks * shape.columns;
}

namespace cpu {

SD_PER_LEVEL(
    void linear_forward(const LinearShape& shape, const float* weight, const float* bias,
                        const float* x, bool relu, float* y, std::int64_t block,
                        std::int64_t row_begin, std::int64_t row_end);
    // gate: the output of the layer below, or null. accumulates: adds to what dx holds.
    void linear_backward_input(const LinearShape& shape, const float* weight, const float* dy,
                               const float* gate, bool accumulates, float* dx, std::int64_t block,
                               std::int64_t begin, std::int64_t end);
    // x with the windows outermost, in panels of features: what the product with dy reads.
    void linear_pack(const LinearShape& shape, const float* x, float* panels, std::int64_t block);
    // Either `dw` is written, or `update` (whose gradient is not used) is stepped. `db` may be
    // null.
    void linear_backward_weight(const LinearShape& shape, const float* dy, const float* panels,
                                float* dw, const AdamSpan<float>* update, double decay, float* db,
                                std::int64_t row_begin, std::int64_t row_end);)

}  // namespace cpu
}  // namespace smoothdistill
