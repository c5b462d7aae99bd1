// CPU kernels of linear; the contract is in csrc/linear.h. Compiled once more with AVX512_BF16,
// where the factors are pairs of bfloat16 numbers in place of floats.
#include "linear.h"

#include "factors.h"
#include "vector.h"

namespace smoothdistill::cpu::SD_LEVEL {
namespace {

constexpr std::int64_t kPanel = kMaxColumns * kLanes;

// sum[r][c] += sum over k < size of a[r * row_stride + k * k_stride] * x[k * x_stride + c]
template <int Rows, int Columns>
SD_INLINE void add_products(const Factor* a, std::int64_t row_stride, std::int64_t k_stride,
                            const Factor* x, std::int64_t x_stride, std::int64_t size,
                            Vector (&sum)[Rows][Columns]) {
  for (std::int64_t k = 0; k < size; ++k) {
    FactorVector columns[Columns];
    SD_UNROLL for (int c = 0; c < Columns; ++c) columns[c] =
        load_once(x + k * x_stride + c * kLanes);
    SD_UNROLL for (int r = 0; r < Rows; ++r) {
      const FactorVector factor = broadcast(a[r * row_stride + k * k_stride]);
      SD_UNROLL for (int c = 0; c < Columns; ++c) add_product(sum[r][c], factor, columns[c]);
    }
  }
}

// The same, and on the way the fetching of `num_lines` cache lines of what comes next.
template <int Rows, int Columns>
SD_INLINE void add_products_and_fetch(const Factor* a, std::int64_t row_stride,
                                      std::int64_t k_stride, const Factor* x, std::int64_t x_stride,
                                      std::int64_t size, const float* next, std::int64_t num_lines,
                                      Vector (&sum)[Rows][Columns]) {
  constexpr std::int64_t kStep = 2 / kNumbers;
  std::int64_t k = 0;
  for (std::int64_t line = 0; line < num_lines && k + kStep <= size; ++line, k += kStep) {
    __builtin_prefetch(next + line * 16, 0, 2);
    add_products(a + k * k_stride, row_stride, k_stride, x + k * x_stride, x_stride, kStep, sum);
  }
  add_products(a + k * k_stride, row_stride, k_stride, x + k * x_stride, x_stride, size - k, sum);
}

// Input features at a time, of which the L2 cache holds as many for a few rows.
constexpr std::int64_t kStrip = 1280;

template <int Rows, int Columns>
SD_INLINE void forward_tile(const float* weight, std::int64_t size, const float* bias,
                            const Factor* x, std::int64_t columns, bool relu, float* y) {
  Vector sum[Rows][Columns];
  SD_UNROLL for (int r = 0; r < Rows; ++r) {
    SD_UNROLL for (int c = 0; c < Columns; ++c) sum[r][c] = broadcast(bias ? bias[r] : 0.0F);
  }
#if defined(__AVX512BF16__)
  // Rounded here, where they are read: pairs kept in memory would have to be written there, too.
  alignas(64) BfloatPair factors[Rows * kStrip / 2];
  for (std::int64_t k = 0; k < size; k += kStrip) {
    const std::int64_t width = size - k < kStrip ? size - k : kStrip;
    const std::int64_t num_pairs = factors_of(width);
    round_neighbours(weight + k, size, Rows, width, factors, kStrip / 2);
    for (int r = 0; r < Rows;
         ++r) {  // with a part of the product, one of the rows of the next tile
      const std::int64_t first = num_pairs * r / Rows, last = num_pairs * (r + 1) / Rows;
      add_products_and_fetch(factors + first, kStrip / 2, 1, x + (k / 2 + first) * columns, columns,
                             last - first, weight + (Rows + r) * size + k, (width + 15) / 16, sum);
    }
  }
#else
  // All of a row at once: its reading stays sequential, and x comes from the L2 cache. Cutting the
  // rows so that x stays in L1 took 8 % longer.
  add_products(weight, size, 1, x, columns, size, sum);
#endif
  SD_UNROLL for (int r = 0; r < Rows; ++r) {
    SD_UNROLL for (int c = 0; c < Columns; ++c) {
      const Vector value = sum[r][c];
      store(y + r * columns + c * kLanes, relu ? (value < 0.0F ? Vector{} : value) : value);
    }
  }
}

template <int Columns>
void forward(const LinearShape& shape, const float* weight, const float* bias, const Factor* x,
             bool relu, float* y, std::int64_t begin, std::int64_t end) {
  const std::int64_t size = shape.in_features, columns = shape.columns;
  const auto rows = [&]<int Rows>(std::int64_t row) __attribute__((always_inline)) {
    for (std::int64_t c = 0; c < columns; c += Columns * kLanes) {
      forward_tile<Rows, Columns>(weight + row * size, size, bias ? bias + row : nullptr, x + c,
                                  columns, relu, y + row * columns + c);
    }
  };
  constexpr int kRows = tile_rows(Columns);
  std::int64_t row = begin;
  for (; row + kRows <= end; row += kRows) rows.template operator()<kRows>(row);
  for (; row + 2 <= end; row += 2) rows.template operator()<2>(row);
  if (row < end) rows.template operator()<1>(row);
}

#if !defined(__AVX512BF16__)
// One window: every weight is used once, so reading them is all there is to it.
void forward_one(const LinearShape& shape, const float* weight, const float* bias, const float* x,
                 bool relu, float* y, std::int64_t begin, std::int64_t end) {
  const std::int64_t size = shape.in_features;
  for (std::int64_t row = begin; row < end; ++row) {
    const float* w = weight + row * size;
    Vector sums[4] = {};
    std::int64_t k = 0;
    for (; k + 4 * kLanes <= size; k += 4 * kLanes) {
      SD_UNROLL for (int v = 0; v < 4; ++v) {
        add_product(sums[v], load(w + k + v * kLanes), load(x + k + v * kLanes));
      }
    }
    for (; k + kLanes <= size; k += kLanes) add_product(sums[0], load(w + k), load(x + k));
    const Vector sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    float value = bias ? bias[row] : 0.0F;
    for (; k < size; ++k) value += w[k] * x[k];
    for (int lane = 0; lane < kLanes; ++lane) value += sum[lane];
    y[row] = relu && value < 0.0F ? 0.0F : value;
  }
}
#endif

// Rows of the weight that are summed into dx at a time: so many sequential streams the processor
// can follow, and their columns stay in L1 from one tile to the next.
constexpr std::int64_t kBlockRows = 40;
#if defined(__AVX512BF16__)
constexpr std::int64_t kStretch = 192;  // of each row, so that its pairs stay in L1: whole tiles
#endif

// One tile of dx, and on the way the fetching of `num_lines` cache lines of the next rows: without
// it the product waits for the weight and takes 20 % longer.
template <int Rows, int Columns>
SD_INLINE void backward_input_tile(const Factor* weight, std::int64_t stride, const Factor* dy,
                                   std::int64_t columns, std::int64_t size, const float* gate,
                                   bool accumulates, float* dx, const float* next,
                                   std::int64_t num_lines) {
  Vector sum[Rows][Columns];
  SD_UNROLL for (int r = 0; r < Rows; ++r) {
    SD_UNROLL for (int c = 0; c < Columns; ++c) {
      sum[r][c] = accumulates ? load(dx + r * columns + c * kLanes) : Vector{};
    }
  }
  add_products_and_fetch(weight, 1, stride, dy, columns, size, next, num_lines, sum);
  SD_UNROLL for (int r = 0; r < Rows; ++r) {
    SD_UNROLL for (int c = 0; c < Columns; ++c) {
      const std::int64_t at = r * columns + c * kLanes;
      Vector value = sum[r][c];
      if (gate != nullptr) value = load(gate + at) > 0.0F ? value : Vector{};
      store(dx + at, value);
    }
  }
}

template <int Columns>
void backward_input(const LinearShape& shape, const float* weight, const Factor* dy,
                    const float* gate, bool accumulates, float* dx, std::int64_t begin,
                    std::int64_t end) {
  constexpr int kRows = tile_rows(Columns);
  const std::int64_t stride = shape.in_features, columns = shape.columns;
  const std::int64_t num_tiles = (end - begin) / kRows + 1;
  for (std::int64_t o = 0; o < shape.out_features; o += kBlockRows) {
    const std::int64_t left = shape.out_features - o;
    const std::int64_t size = left < kBlockRows ? left : kBlockRows;
    const bool is_last = left <= kBlockRows;
    const std::int64_t next_size = left - size < kBlockRows ? left - size : kBlockRows;
    const std::int64_t lines_a_row = (end - begin + 15) / 16;
    const std::int64_t lines_a_tile = (next_size * lines_a_row + num_tiles - 1) / num_tiles;
    std::int64_t line = 0;
    // Tiles of the features [first, last), whose weights begin at `factors`.
    const auto stretch = [&](std::int64_t first, std::int64_t last, const Factor* factors,
                             std::int64_t factor_stride) __attribute__((always_inline)) {
      const auto rows = [&]<int Rows>(std::int64_t i) __attribute__((always_inline)) {
        for (std::int64_t c = 0; c < columns; c += Columns * kLanes) {
          const std::int64_t row = line / lines_a_row;
          const float* next = weight + (o + size + row) * stride + begin + line % lines_a_row * 16;
          const bool fetches = c == 0 && row < next_size;
          if (fetches) line += lines_a_tile;
          backward_input_tile<Rows, Columns>(
              factors + i - first, factor_stride, dy + o / kNumbers * columns + c, columns,
              factors_of(size), gate && is_last ? gate + i * columns + c : nullptr,
              accumulates || o > 0, dx + i * columns + c, next, fetches ? lines_a_tile : 0);
        }
      };
      std::int64_t i = first;
      for (; i + kRows <= last; i += kRows) rows.template operator()<kRows>(i);
      for (; i + 2 <= last; i += 2) rows.template operator()<2>(i);
      if (i < last) rows.template operator()<1>(i);
    };
#if defined(__AVX512BF16__)
    alignas(64) BfloatPair factors[kBlockRows / 2 * kStretch];
    for (std::int64_t first = begin; first < end; first += kStretch) {
      const std::int64_t last = end - first < kStretch ? end : first + kStretch;
      round_rows(weight + o * stride + first, stride, size, last - first, factors, kStretch);
      stretch(first, last, factors, kStretch);
    }
#else
    stretch(begin, end, weight + o * stride + begin, stride);
#endif
  }
}

constexpr int kTileRows = tile_rows(kMaxColumns);
constexpr int kUpdateRows = 2 * kTileRows;  // a panel is read from the L2 cache once for so many

// One block's share of a tile of dw, Rows x kPanel; blocks after the first are added.
template <int Rows>
SD_INLINE void backward_weight_tile(const LinearShape& shape, const Factor* dy, const Factor* panel,
                                    std::int64_t block, float* dw, std::int64_t stride) {
  const std::int64_t columns = shape.columns / kNumbers;
  Vector sum[Rows][kMaxColumns];
  SD_UNROLL for (int r = 0; r < Rows; ++r) {
    SD_UNROLL for (int c = 0; c < kMaxColumns; ++c) {
      sum[r][c] = block > 0 ? load(dw + r * stride + c * kLanes) : Vector{};
    }
  }
  add_products(dy + block * shape.out_features * columns, columns, 1,
               panel + block * columns * kPanel, kPanel, columns, sum);
  SD_UNROLL for (int r = 0; r < Rows; ++r) {
    SD_UNROLL for (int c = 0; c < kMaxColumns; ++c) store(dw + r * stride + c * kLanes, sum[r][c]);
  }
}

// The rows [row, row + num_rows) of dw, at most kUpdateRows. Adam takes them while they are in the
// cache, so that the gradient is never written to memory: 10 % less time than after the product.
// Fetching Adam's four streams ahead by hand during the product does not help: there are too few
// fill buffers, and the processor's own prefetcher, which follows a long row, has more.
void backward_weight_rows(const LinearShape& shape, const Factor* dy, const Factor* panels,
                          float* dw, const AdamSpan<float>* update, double decay, std::int64_t row,
                          std::int64_t num_rows) {
  alignas(64) float gradient[kUpdateRows * kStrip];
  const std::int64_t in = shape.in_features, columns = shape.columns / kNumbers;
  const std::int64_t batch = shape.blocks * columns;
  for (std::int64_t strip = 0; strip < in; strip += kStrip) {
    const std::int64_t width = in - strip < kStrip ? in - strip : kStrip;
    for (std::int64_t j = 0; j < width; j += kPanel) {
      const Factor* panel = panels + (strip + j) * batch;
      const bool stays = update != nullptr || width - j < kPanel;  // or goes where it belongs
      float* to = stays ? gradient + j : dw + row * in + strip + j;
      const std::int64_t stride = stays ? kStrip : in;
      // Block by block, so that a block's panel stays in L1 for all of the rows.
      for (std::int64_t block = 0; block < shape.blocks; ++block) {
        const auto rows = [&]<int Rows>(std::int64_t r) __attribute__((always_inline)) {
          backward_weight_tile<Rows>(shape, dy + (row + r) * columns, panel, block, to + r * stride,
                                     stride);
        };
        std::int64_t r = 0;
        for (; r + kTileRows <= num_rows; r += kTileRows) rows.template operator()<kTileRows>(r);
        for (; r < num_rows; ++r) rows.template operator()<1>(r);
      }
    }
    for (std::int64_t r = 0; r < num_rows; ++r) {
      const float* from = gradient + r * kStrip;
      const std::int64_t first = (row + r) * in + strip;
      if (update == nullptr) {
        for (std::int64_t j = width / kPanel * kPanel; j < width; ++j) dw[first + j] = from[j];
      } else {
        AdamSpan<float> span = *update;
        span.weight += first;
        span.gradient = from;
        span.exp_avg += first;
        span.exp_avg_sq += first;
        if (span.teacher != nullptr) span.teacher += first;
        span.length = width;
        adam_ema(span, 0, width, decay);
      }
    }
  }
}

}  // namespace

void linear_forward(const LinearShape& shape, const float* weight, const float* bias,
                    const Factor* x, bool relu, float* y, std::int64_t block,
                    std::int64_t row_begin, std::int64_t row_end) {
  x += block * factors_of(shape.in_features) * shape.columns;
  y += block * shape.out_features * shape.columns;
#if !defined(__AVX512BF16__)
  if (shape.columns == 1) {
    forward_one(shape, weight, bias, x, relu, y, row_begin, row_end);
    return;
  }
#endif
  switch (tile_columns(shape.columns / kLanes)) {
#if defined(__AVX512F__) || defined(__aarch64__)
    case 4:
      forward<4>(shape, weight, bias, x, relu, y, row_begin, row_end);
      break;
    case 3:
      forward<3>(shape, weight, bias, x, relu, y, row_begin, row_end);
      break;
#endif
    case 2:
      forward<2>(shape, weight, bias, x, relu, y, row_begin, row_end);
      break;
    default:
      forward<1>(shape, weight, bias, x, relu, y, row_begin, row_end);
  }
}

void linear_backward_input(const LinearShape& shape, const float* weight, const Factor* dy,
                           const float* gate, bool accumulates, float* dx, std::int64_t block,
                           std::int64_t begin, std::int64_t end) {
  dy += block * factors_of(shape.out_features) * shape.columns;
  dx += block * shape.in_features * shape.columns;
  if (gate != nullptr) gate += block * shape.in_features * shape.columns;
  switch (tile_columns(shape.columns / kLanes)) {
#if defined(__AVX512F__) || defined(__aarch64__)
    case 4:
      backward_input<4>(shape, weight, dy, gate, accumulates, dx, begin, end);
      break;
    case 3:
      backward_input<3>(shape, weight, dy, gate, accumulates, dx, begin, end);
      break;
#endif
    case 2:
      backward_input<2>(shape, weight, dy, gate, accumulates, dx, begin, end);
      break;
    default:
      backward_input<1>(shape, weight, dy, gate, accumulates, dx, begin, end);
  }
}

// The windows [0, columns) of the features [feature, feature + kPanel), windows outermost; features
// beyond the last are 0.
SD_INLINE void turn_panel(const LinearShape& shape, const float* x, std::int64_t feature,
                          std::int64_t columns, float* to) {
  const std::int64_t left = shape.in_features - feature;
  const std::int64_t width = left < kPanel ? left : kPanel;
  transpose(x + feature * shape.columns, shape.columns, width, columns, to, kPanel);
  for (std::int64_t c = 0; width < kPanel && c < columns; ++c) {
    for (std::int64_t j = width; j < kPanel; ++j) to[c * kPanel + j] = 0.0F;
  }
}

#if !defined(__AVX512BF16__)
void linear_pack(const LinearShape& shape, const float* x, float* panels, std::int64_t block) {
  x += block * shape.in_features * shape.columns;
  for (std::int64_t i = 0; i < shape.in_features; i += kPanel) {
    turn_panel(shape, x, i, shape.columns,
               panels + (i * shape.blocks + block * kPanel) * shape.columns);
  }
}
#else
void linear_pack(const LinearShape& shape, const float* x, BfloatPair* panels, std::int64_t block) {
  alignas(64) float windows[kColumnGranule * kPanel];
  x += block * shape.in_features * shape.columns;
  for (std::int64_t i = 0; i < shape.in_features; i += kPanel) {
    BfloatPair* panel = panels + (i * shape.blocks + block * kPanel) * (shape.columns / 2);
    for (std::int64_t c = 0; c < shape.columns; c += kColumnGranule) {
      turn_panel(shape, x + c, i, kColumnGranule, windows);
      round_rows(windows, kPanel, kColumnGranule, kPanel, panel + c / 2 * kPanel, kPanel);
    }
  }
}

void linear_pair_neighbours(const float* from, std::int64_t size, BfloatPair* to) {
  round_neighbours(from, size, 1, size, to, size);
}

void linear_pair_rows(const float* from, std::int64_t rows, std::int64_t size, BfloatPair* to) {
  round_rows(from, size, rows, size, to, size);
}
#endif

void linear_backward_weight(const LinearShape& shape, const Factor* dy, const Factor* panels,
                            float* dw, const AdamSpan<float>* update, double decay,
                            std::int64_t row_begin, std::int64_t row_end) {
  for (std::int64_t row = row_begin; row < row_end; row += kUpdateRows) {
    const std::int64_t left = row_end - row;
    backward_weight_rows(shape, dy, panels, dw, update, decay, row,
                         left < kUpdateRows ? left : kUpdateRows);
  }
}

#if !defined(__AVX512BF16__)
void linear_backward_bias(const LinearShape& shape, const float* dy, float* db,
                          std::int64_t row_begin, std::int64_t row_end) {
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    float sum = 0.0F;
    for (std::int64_t block = 0; block < shape.blocks; ++block) {
      const float* from = dy + (block * shape.out_features + row) * shape.columns;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t c = 0; c < shape.columns; ++c) sum += from[c];
    }
    db[row] = sum;
  }
}
#endif

}  // namespace smoothdistill::cpu::SD_LEVEL
