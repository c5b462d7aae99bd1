// NOTE [Batch in columns]
// The kernels of whole layers (conv_pool, linear) keep a batch as [blocks, features, columns]: the
// features of a window run down a column, and neighbouring windows lie side by side. So a vector
// holds one feature of several windows, weights are read as the user's model stores them and
// broadcast, nothing is repacked, and the flattening between convolution and linear layer is free.
// A block has a multiple of 16 columns (one AVX-512 register), at most 64 in what
// `smoothdistill.ops.columns` plans: then the activations of a block stay in the L2 cache. The last
// columns of the last block may be padding, which is zero on the way in and which nobody reads on
// the way out. One window alone is a block of one column.
#pragma once

#include <cstdint>

namespace smoothdistill {

constexpr std::int64_t kColumnGranule = 16;

struct BatchInColumns {
  std::int64_t blocks;
  std::int64_t columns;
};

// One block of rows [batch, features] as columns [features, columns], padded with zeros.
template <class T>
static inline void to_columns(const T* rows, std::int64_t batch, std::int64_t features,
                              std::int64_t columns, std::int64_t block, T* out) {
  const std::int64_t first = block * columns;
  const std::int64_t filled = batch - first < columns ? batch - first : columns;
  rows += first * features;
  out += block * features * columns;
  for (std::int64_t f = 0; f < features; ++f) {
    for (std::int64_t c = 0; c < filled; ++c) out[f * columns + c] = rows[c * features + f];
    for (std::int64_t c = filled; c < columns; ++c) out[f * columns + c] = T(0);
  }
}

// And back, without the padding.
template <class T>
static inline void from_columns(const T* in, std::int64_t batch, std::int64_t features,
                                std::int64_t columns, std::int64_t block, T* rows) {
  const std::int64_t first = block * columns;
  const std::int64_t filled = batch - first < columns ? batch - first : columns;
  rows += first * features;
  in += block * features * columns;
  for (std::int64_t c = 0; c < filled; ++c) {
    for (std::int64_t f = 0; f < features; ++f) rows[c * features + f] = in[f * columns + c];
  }
}

}  // namespace smoothdistill
