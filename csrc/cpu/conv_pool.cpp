// CPU kernels of conv_pool; the contract is in csrc/conv_pool.h. The forward pass is compiled once
// more with AVX512_BF16 (factors.h).
#include "conv_pool.h"

#include "factors.h"
#include "sparse_sum.h"
#include "vector.h"

namespace smoothdistill::cpu::SD_LEVEL {
namespace {

// As `tile_rows`, for tiles that hold both outputs of a pair.
constexpr int pair_rows(int columns) {
  if (kHasManyRegisters) return columns == 4 ? 3 : columns == 3 ? 4 : columns == 2 ? 6 : 8;
  return columns == 2 ? 3 : 4;
}

// The larger of a pair, and where it is; a NaN is larger than everything.
SD_INLINE std::uint8_t choose(float first, float second, float& value) {
  const bool takes_second = second > first || second != second;
  value = takes_second ? second : first;
  if (value <= 0.0F) {
    value = 0.0F;
    return 2;
  }
  return takes_second ? 1 : 0;
}

// Rows output channels x one pair of outputs x Columns vectors of windows.
template <int Rows, int Columns>
SD_INLINE void forward_tile(const ConvPoolShape& s, std::int64_t columns, const Factor* x,
                            const Factor* weight, const float* bias, float* y, std::uint8_t* choice,
                            std::int64_t y_stride) {
  const std::int64_t in_channels = factors_of(s.in_channels), row_size = in_channels * s.kernel;
  Vector sum[2][Rows][Columns];
  SD_UNROLL for (int r = 0; r < Rows; ++r) {
    SD_UNROLL for (int c = 0; c < Columns; ++c) sum[0][r][c] = sum[1][r][c] = broadcast(bias[r]);
  }
  for (std::int64_t channel = 0; channel < in_channels; ++channel) {
    const Factor* from = x + channel * s.time * columns;
    const Factor* w = weight + channel * s.kernel;
    FactorVector samples[Columns];
    SD_UNROLL for (int c = 0; c < Columns; ++c) samples[c] = load(from + c * kLanes);
    for (std::int64_t k = 0; k < s.kernel; ++k) {
      FactorVector factors[Rows];
      SD_UNROLL for (int r = 0; r < Rows; ++r) {
        factors[r] = broadcast(w[r * row_size + k]);
        SD_UNROLL for (int c = 0; c < Columns; ++c) {
          add_product(sum[0][r][c], factors[r], samples[c]);
        }
      }
      from += columns;  // what is the second of the pair now is the first with the next weight
      SD_UNROLL for (int c = 0; c < Columns; ++c) samples[c] = load_once(from + c * kLanes);
      SD_UNROLL for (int r = 0; r < Rows; ++r) {
        SD_UNROLL for (int c = 0; c < Columns; ++c) {
          add_product(sum[1][r][c], factors[r], samples[c]);
        }
      }
    }
  }
  SD_UNROLL for (int r = 0; r < Rows; ++r) {
    if (choice != nullptr) {
      alignas(64) float pair[2][Columns * kLanes];
      SD_UNROLL for (int c = 0; c < Columns; ++c) {
        store(pair[0] + c * kLanes, sum[0][r][c]);
        store(pair[1] + c * kLanes, sum[1][r][c]);
      }
      for (int i = 0; i < Columns * kLanes; ++i) {
        choice[r * y_stride + i] = choose(pair[0][i], pair[1][i], y[r * y_stride + i]);
      }
    } else {
      SD_UNROLL for (int c = 0; c < Columns; ++c) {
        const Vector first = sum[0][r][c], second = sum[1][r][c];
        Vector value = (second > first) | (second != second) ? second : first;
        value = value <= 0.0F ? Vector{} : value;
        store(y + r * y_stride + c * kLanes, value);
      }
    }
  }
}

template <int Columns>
void forward(const ConvPoolShape& s, std::int64_t columns, const Factor* x, const Factor* weight,
             const float* bias, float* y, std::uint8_t* choice, std::int64_t begin,
             std::int64_t end) {
  constexpr int kRows = pair_rows(Columns);
  const std::int64_t row_size = factors_of(s.in_channels) * s.kernel;
  const std::int64_t y_stride = s.pooled * columns;
  for (std::int64_t p = begin; p < end; ++p) {
    for (std::int64_t c = 0; c < columns; c += Columns * kLanes) {
      const auto rows = [&]<int Rows>(std::int64_t o) __attribute__((always_inline)) {
        const std::int64_t at = o * y_stride + p * columns + c;
        forward_tile<Rows, Columns>(s, columns, x + 2 * p * columns + c, weight + o * row_size,
                                    bias + o, y + at, choice ? choice + at : nullptr, y_stride);
      };
      std::int64_t o = 0;
      for (; o + kRows <= s.out_channels; o += kRows) rows.template operator()<kRows>(o);
      for (; o < s.out_channels; ++o) rows.template operator()<1>(o);
    }
  }
}

#if !defined(__AVX512BF16__)
// One window: vectors run along time.
template <int Rows, int Columns>
SD_INLINE void forward_one_tile(const ConvPoolShape& s, const float* x, const float* weight,
                                const float* bias, float* y, std::uint8_t* choice, std::int64_t t) {
  const std::int64_t row_size = s.in_channels * s.kernel;
  Vector sum[Rows][Columns];
  SD_UNROLL for (int r = 0; r < Rows; ++r) {
    SD_UNROLL for (int c = 0; c < Columns; ++c) sum[r][c] = broadcast(bias[r]);
  }
  for (std::int64_t channel = 0; channel < s.in_channels; ++channel) {
    for (std::int64_t k = 0; k < s.kernel; ++k) {
      const float* from = x + channel * s.time + t + k;
      Vector samples[Columns];
      SD_UNROLL for (int c = 0; c < Columns; ++c) samples[c] = load_once(from + c * kLanes);
      SD_UNROLL for (int r = 0; r < Rows; ++r) {
        const Vector factor = broadcast(weight[r * row_size + channel * s.kernel + k]);
        SD_UNROLL for (int c = 0; c < Columns; ++c) add_product(sum[r][c], factor, samples[c]);
      }
    }
  }
  SD_UNROLL for (int r = 0; r < Rows; ++r) {
    alignas(64) float row[Columns * kLanes];
    SD_UNROLL for (int c = 0; c < Columns; ++c) store(row + c * kLanes, sum[r][c]);
    for (std::int64_t i = 0; i < Columns * kLanes / 2; ++i) {
      const std::int64_t at = r * s.pooled + t / 2 + i;
      const std::uint8_t chosen = choose(row[2 * i], row[2 * i + 1], y[at]);
      if (choice != nullptr) choice[at] = chosen;
    }
  }
}

template <int Rows>
void forward_one_rows(const ConvPoolShape& s, const float* x, const float* weight,
                      const float* bias, float* y, std::uint8_t* choice, std::int64_t begin,
                      std::int64_t end) {
  std::int64_t t = begin;
  for (; t + kMaxColumns * kLanes <= end; t += kMaxColumns * kLanes) {
    forward_one_tile<Rows, kMaxColumns>(s, x, weight, bias, y, choice, t);
  }
  for (; t + kLanes <= end; t += kLanes)
    forward_one_tile<Rows, 1>(s, x, weight, bias, y, choice, t);
  if (t < end && end - begin >= kLanes) {  // the last vector overlaps the one before
    forward_one_tile<Rows, 1>(s, x, weight, bias, y, choice, end - kLanes);
    t = end;
  }
  const std::int64_t row_size = s.in_channels * s.kernel;
  for (; t < end; t += 2) {
    for (int r = 0; r < Rows; ++r) {
      float pair[2] = {bias[r], bias[r]};
      for (std::int64_t channel = 0; channel < s.in_channels; ++channel) {
        for (std::int64_t k = 0; k < s.kernel; ++k) {
          const float w = weight[r * row_size + channel * s.kernel + k];
          pair[0] += w * x[channel * s.time + t + k];
          pair[1] += w * x[channel * s.time + t + 1 + k];
        }
      }
      const std::uint8_t chosen = choose(pair[0], pair[1], y[r * s.pooled + t / 2]);
      if (choice != nullptr) choice[r * s.pooled + t / 2] = chosen;
    }
  }
}

void forward_one(const ConvPoolShape& s, const float* x, const float* weight, const float* bias,
                 float* y, std::uint8_t* choice, std::int64_t begin, std::int64_t end) {
  constexpr int kRows = kHasManyRegisters ? 6 : 4;
  const std::int64_t row_size = s.in_channels * s.kernel;
  const auto rows = [&]<int Rows>(std::int64_t o) {
    forward_one_rows<Rows>(s, x, weight + o * row_size, bias + o, y + o * s.pooled,
                           choice ? choice + o * s.pooled : nullptr, 2 * begin, 2 * end);
  };
  std::int64_t o = 0;
  for (; o + kRows <= s.out_channels; o += kRows) rows.template operator()<kRows>(o);
  for (; o < s.out_channels; ++o) rows.template operator()<1>(o);
}

#endif

}  // namespace

void conv_pool_forward(const ConvPoolShape& s, const BatchInColumns& layout, const Factor* x,
                       const Factor* weight, const float* bias, float* y, std::uint8_t* choice,
                       std::int64_t block, std::int64_t begin, std::int64_t end) {
  const std::int64_t columns = layout.columns;
  x += block * factors_of(s.in_channels) * s.time * columns;
  y += block * s.out_channels * s.pooled * columns;
  if (choice != nullptr) choice += block * s.out_channels * s.pooled * columns;
#if !defined(__AVX512BF16__)
  if (columns == 1) {
    forward_one(s, x, weight, bias, y, choice, begin, end);
    return;
  }
#endif
  switch (tile_columns(columns / kLanes)) {
#if defined(__AVX512F__) || defined(__aarch64__)
    case 4:
      forward<4>(s, columns, x, weight, bias, y, choice, begin, end);
      break;
    case 3:
      forward<3>(s, columns, x, weight, bias, y, choice, begin, end);
      break;
#endif
    case 2:
      forward<2>(s, columns, x, weight, bias, y, choice, begin, end);
      break;
    default:
      forward<1>(s, columns, x, weight, bias, y, choice, begin, end);
  }
}

#if defined(__AVX512BF16__)
void conv_pool_pair(const ConvPoolShape& s, const BatchInColumns& layout, const float* x,
                    const float* weight, const ConvPoolPairs& pairs) {
  const std::int64_t size = s.time * layout.columns, channels = factors_of(s.in_channels);
  for (std::int64_t block = 0; block < layout.blocks; ++block) {
    round_rows(x + block * s.in_channels * size, size, s.in_channels, size,
               pairs.x + block * channels * size, size);
  }
  for (std::int64_t o = 0; o < s.out_channels; ++o) {
    round_rows(weight + o * s.in_channels * s.kernel, s.kernel, s.in_channels, s.kernel,
               pairs.weight + o * channels * s.kernel, s.kernel);
  }
}
#else
void conv_pool_gather(const ConvPoolShape& s, const BatchInColumns& layout, const float* x,
                      const ConvPoolWorkspace& workspace, std::int64_t group) {
  const std::int64_t first = group * kColumnGranule;
  const std::int64_t block = first / layout.columns, column = first % layout.columns;
  const float* from = x + block * s.in_channels * s.time * layout.columns + column;
  float* to = workspace.rows + first * workspace.row_stride;
  for (std::int64_t t = 0; t < s.time; ++t) {
    transpose(from + t * layout.columns, s.time * layout.columns, s.in_channels, kColumnGranule,
              to + t * s.in_channels, workspace.row_stride);
  }
  for (int w = 0; w < kColumnGranule; ++w) {  // read past the end, and then not used
    float* row = to + w * workspace.row_stride;
    for (std::int64_t i = s.time * s.in_channels; i < workspace.row_stride; ++i) row[i] = 0.0F;
  }
}

void conv_pool_turn_weights(const ConvPoolShape& s, const float* weight,
                            const ConvPoolWorkspace& workspace) {
  for (std::int64_t o = 0; o < s.out_channels; ++o) {
    float* to = workspace.weights + o * workspace.weight_stride;
    for (std::int64_t i = 0; i < workspace.weight_stride; ++i) to[i] = 0.0F;
    for (std::int64_t c = 0; c < s.in_channels; ++c) {
      const float* from = weight + (o * s.in_channels + c) * s.kernel;
      for (std::int64_t k = 0; k < s.kernel; ++k) to[(k + 1) * s.in_channels + c] = from[k];
    }
  }
}

void conv_pool_backward_weight(const ConvPoolShape& s, const BatchInColumns& layout,
                               const float* dy, const std::uint8_t* choice,
                               const ConvPoolWorkspace& workspace, float* dw, float* db,
                               std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kWindows = 4;  // their rows stay in L1 from one channel to the next
  constexpr std::int64_t kPairs = Terms::kMost / kWindows;
  const std::int64_t length = workspace.grad_weight_stride, columns = layout.columns;
  for (std::int64_t i = begin * length; i < end * length; ++i) workspace.grad_weights[i] = 0.0F;
  for (std::int64_t o = begin; o < end; ++o) db[o] = 0.0F;
  for (std::int64_t window = 0; window < layout.blocks * columns; window += kWindows) {
    const std::int64_t block = window / columns, column = window % columns;
    for (std::int64_t o = begin; o < end; ++o) {
      float bias_sum = 0.0F;
      for (std::int64_t first = 0; first < s.pooled; first += kPairs) {
        Terms terms;
        const std::int64_t last = s.pooled - first < kPairs ? s.pooled : first + kPairs;
        for (std::int64_t p = first; p < last; p += 4) {
          const std::int64_t at = ((block * s.out_channels + o) * s.pooled + p) * columns + column;
          terms.add_block(dy + at, choice + at, columns, last - p < 4 ? last - p : 4,
                          2 * p * s.in_channels, workspace.row_stride, 2 * s.in_channels,
                          s.in_channels);
        }
        add_terms(terms, workspace.rows + window * workspace.row_stride,
                  workspace.grad_weights + o * length, length);
#pragma omp simd reduction(+ : bias_sum)
        for (std::int64_t i = 0; i < terms.size; ++i) bias_sum += terms.factors[i];
      }
      db[o] += bias_sum;
    }
  }
  for (std::int64_t o = begin; o < end; ++o) {
    const float* from = workspace.grad_weights + o * length;
    for (std::int64_t c = 0; c < s.in_channels; ++c) {
      float* to = dw + (o * s.in_channels + c) * s.kernel;
      for (std::int64_t k = 0; k < s.kernel; ++k) to[k] = from[k * s.in_channels + c];
    }
  }
}

void conv_pool_backward_input(const ConvPoolShape& s, const BatchInColumns& layout, const float* dy,
                              const std::uint8_t* choice, const ConvPoolWorkspace& workspace,
                              float* dx, std::int64_t group) {
  constexpr std::int64_t kChannels = 16;  // their weights stay in L1
  const std::int64_t columns = layout.columns, first = group * kColumnGranule;
  const std::int64_t block = first / columns, column = first % columns;
  const std::int64_t length = conv_pool_round_up((s.kernel + 1) * s.in_channels);
  float* sums = workspace.grad_rows + first * workspace.row_stride;
  for (std::int64_t i = 0; i < kColumnGranule * workspace.row_stride; ++i) sums[i] = 0.0F;
  // The gradient with a window's channels side by side.
  const std::int64_t size = s.pooled * s.out_channels;
  float* turned = workspace.turned + first * size;
  std::uint8_t* choices = workspace.choices + first * size;
  for (std::int64_t p = 0; p < s.pooled; ++p) {
    const std::int64_t at = (block * s.out_channels * s.pooled + p) * columns + column;
    const std::int64_t stride = s.pooled * columns, place = p * s.out_channels;
    transpose(dy + at, stride, s.out_channels, kColumnGranule, turned + place, size);
    for (std::int64_t o = 0; o < s.out_channels; ++o) {
      const std::uint8_t* row = choice + at + o * stride;
      SD_UNROLL for (int w = 0; w < kColumnGranule; ++w) choices[w * size + place + o] = row[w];
    }
  }
  for (std::int64_t o = 0; o < s.out_channels; o += kChannels) {
    const std::int64_t left = s.out_channels - o;
    const float* weights = workspace.weights + o * workspace.weight_stride;
    for (std::int64_t w = 0; w < kColumnGranule; ++w) {
      for (std::int64_t p = 0; p < s.pooled; ++p) {
        const std::int64_t at = w * size + p * s.out_channels + o;
        Terms terms;
        // The zeros before and after a channel's weights shift it to the second of the pair.
        terms.add_row(turned + at, choices + at, left < kChannels ? left : kChannels,
                      workspace.weight_stride, s.in_channels);
        add_terms(terms, weights, sums + w * workspace.row_stride + 2 * p * s.in_channels, length);
      }
    }
  }
  float* to = dx + block * s.in_channels * s.time * columns + column;
  for (std::int64_t t = 0; t < s.time; ++t) {
    transpose(sums + t * s.in_channels, workspace.row_stride, kColumnGranule, s.in_channels,
              to + t * columns, s.time * columns);
  }
}
#endif

}  // namespace smoothdistill::cpu::SD_LEVEL
