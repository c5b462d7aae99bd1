// conv_pool for `_core`: from tensors to calls of the kernels, cut into pieces for threads.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "column_arguments.h"
#include "columns.h"
#include "conv_pool.h"
#include "simd.h"

namespace smoothdistill {

// Calls body(block, begin, end) for the outputs [begin, end) of the time axis of each block.
template <class Body>
void for_conv_pool_outputs(const ConvPoolShape& s, const BatchInColumns& layout, Body body) {
  const std::int64_t work = 2 * s.out_channels * s.in_channels * s.kernel * layout.columns;
  parallel_pieces(layout.blocks * s.pooled, work, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t block = begin / s.pooled, first = begin % s.pooled;
      const std::int64_t last = std::min(s.pooled, first + end - begin);
      body(block, first, last);
      begin += last - first;
    }
  });
}

inline void run_conv_pool(const ConvPoolShape& s, const BatchInColumns& layout, const float* x,
                          const float* weight, const float* bias, float* y, std::uint8_t* choice) {
  for_conv_pool_outputs(s, layout, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
    SD_CALL(conv_pool_forward, s, layout, x, weight, bias, y, choice, block, begin, end);
  });
}

inline void run_conv_pool_backward(const ConvPoolShape& s, const BatchInColumns& layout,
                                   const float* dy, const std::uint8_t* choice, const float* x,
                                   const float* weight, float* memory, float* dx, float* dw,
                                   float* db) {
  const cpu::ConvPoolWorkspace workspace = cpu::conv_pool_workspace(memory, s, layout);
  const std::int64_t groups = layout.blocks * layout.columns / kColumnGranule;
  const std::int64_t products = s.pooled * s.in_channels * s.kernel;  // a window and channel
  parallel_pieces(groups, kColumnGranule * s.time * s.in_channels,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t group = begin; group < end; ++group) {
                      SD_CALL(conv_pool_gather, s, layout, x, workspace, group);
                    }
                  });
  parallel_pieces(s.out_channels, products * layout.blocks * layout.columns,
                  [&](std::int64_t begin, std::int64_t end) {
                    SD_CALL(conv_pool_backward_weight, s, layout, dy, choice, workspace, dw, db,
                            begin, end);
                  });
  if (dx == nullptr) return;
  SD_CALL(conv_pool_turn_weights, s, weight, workspace);
  parallel_pieces(groups, kColumnGranule * products * s.out_channels,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t group = begin; group < end; ++group) {
                      SD_CALL(conv_pool_backward_input, s, layout, dy, choice, workspace, dx,
                              group);
                    }
                  });
}

inline ConvPoolShape conv_pool_shape(const TensorView& weight, std::int64_t batch,
                                     std::int64_t time) {
  const std::int64_t* w = weight.raw.shape;
  constexpr std::int64_t kMost = std::int64_t{1} << 24;  // the kernels keep places in 32 bits
  if (w[1] * std::max(time, w[2]) > kMost) {
    throw py::value_error("`signals` must hold at most " + std::to_string(kMost) +
                          " numbers a window, but holds " + std::to_string(w[1] * time) +
                          " instead.");
  }
  return {batch, w[1], time, w[0], w[2], (time - w[2] + 1) / 2};
}

// A batch in columns: x [blocks, in, time, columns] -> y [blocks, out, pooled, columns].
struct ConvPoolInColumns {
  ConvPoolInColumns(py::handle x, py::handle weight, py::handle bias, py::handle y,
                    py::handle choice)
      : weights(float_view(weight, "weight", {-1, -1, -1})),
        in(float_view(x, "x", {-1, weights.raw.shape[1], -1, -1})),
        layout{in.raw.shape[0], in.raw.shape[3]} {
    require_columns(layout.columns);
    shape = conv_pool_shape(weights, layout.blocks * layout.columns, in.raw.shape[2]);
    biases = float_view(bias, "bias", {shape.out_channels}).as<float>();
    const TensorView out =
        float_view(y, "y", {layout.blocks, shape.out_channels, shape.pooled, layout.columns});
    to = out.as<float>();
    where = choice.is_none() ? nullptr : choice_view(choice, out.size);
  }

  TensorView weights, in;
  BatchInColumns layout;
  ConvPoolShape shape{};
  const float* biases;
  float* to;
  std::uint8_t* where;
};

inline void conv_pool_columns(py::handle x, py::handle weight, py::handle bias, py::handle y,
                              py::handle choice) {
  const ConvPoolInColumns c(x, weight, bias, y, choice);
  run_conv_pool(c.shape, c.layout, c.in.as<float>(), c.weights.as<float>(), c.biases, c.to,
                c.where);
}

#if defined(SMOOTHDISTILL_HAS_X86_LEVELS)
// The same of numbers rounded to bfloat16; memory is lent for their pairs.
inline void conv_pool_columns_bfloat16(py::handle x, py::handle weight, py::handle bias,
                                       py::handle y, py::handle choice, py::handle memory) {
  const ConvPoolInColumns c(x, weight, bias, y, choice);
  const ConvPoolShape& s = c.shape;
  require_many_columns(c.layout.columns);
  const std::int64_t channels = (s.in_channels + 1) / 2;
  const std::int64_t size = c.layout.blocks * channels * s.time * c.layout.columns;
  const TensorView lent = pair_view(memory, "memory", {-1});
  require_elements(lent, "memory", size + s.out_channels * channels * s.kernel);
  const cpu::ConvPoolPairs pairs{lent.as<BfloatPair>(), lent.as<BfloatPair>() + size};
  cpu::avx512_bf16::conv_pool_pair(s, c.layout, c.in.as<float>(), c.weights.as<float>(), pairs);
  for_conv_pool_outputs(s, c.layout, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
    cpu::avx512_bf16::conv_pool_forward(s, c.layout, pairs.x, pairs.weight, c.biases, c.to, c.where,
                                        block, begin, end);
  });
}
#endif

inline void conv_pool_backward_columns(py::handle dy, py::handle choice, py::handle x,
                                       py::handle weight, py::handle workspace, py::handle dx,
                                       py::handle dw, py::handle db) {
  const TensorView weights = float_view(weight, "weight", {-1, -1, -1});
  const TensorView in = float_view(x, "x", {-1, weights.raw.shape[1], -1, -1});
  const BatchInColumns layout{in.raw.shape[0], in.raw.shape[3]};
  require_many_columns(layout.columns);
  const ConvPoolShape s = conv_pool_shape(weights, layout.blocks * layout.columns, in.raw.shape[2]);
  const TensorView grad =
      float_view(dy, "dy", {layout.blocks, s.out_channels, s.pooled, layout.columns});
  const TensorView memory = float_view(workspace, "workspace", {-1});
  require_elements(memory, "workspace", cpu::conv_pool_workspace_floats(s, layout));
  float* grad_in = nullptr;
  if (!dx.is_none()) {
    grad_in =
        float_view(dx, "dx", {layout.blocks, s.in_channels, s.time, layout.columns}).as<float>();
  }
  run_conv_pool_backward(
      s, layout, grad.as<float>(), choice_view(choice, grad.size), in.as<float>(),
      weights.as<float>(), memory.as<float>(), grad_in,
      float_view(dw, "dw", {s.out_channels, s.in_channels, s.kernel}).as<float>(),
      float_view(db, "db", {s.out_channels}).as<float>());
}

inline std::int64_t conv_pool_workspace_size(std::int64_t blocks, std::int64_t columns,
                                             std::int64_t in_channels, std::int64_t time,
                                             std::int64_t out_channels, std::int64_t kernel) {
  const ConvPoolShape s{blocks * columns, in_channels, time,
                        out_channels,     kernel,      (time - kernel + 1) / 2};
  return cpu::conv_pool_workspace_floats(s, {blocks, columns});
}

// A batch as PyTorch has it: signals [batch, in, time] -> pooled [batch, out, pooled].
inline void conv_pool(py::handle signals, py::handle weight, py::handle bias, py::handle pooled,
                      py::handle choice) {
  const TensorView weights = float_view(weight, "weight", {-1, -1, -1});
  const TensorView in = float_view(signals, "signals", {-1, weights.raw.shape[1], -1});
  const std::int64_t batch = in.raw.shape[0];
  const ConvPoolShape s = conv_pool_shape(weights, batch, in.raw.shape[2]);
  const TensorView biases = float_view(bias, "bias", {s.out_channels});
  const TensorView out = float_view(pooled, "pooled", {batch, s.out_channels, s.pooled});
  std::uint8_t* chosen = choice.is_none() ? nullptr : choice_view(choice, out.size);
  const BatchInColumns layout = plan_columns(batch);
  if (layout.columns == 1) {
    run_conv_pool(s, layout, in.as<float>(), weights.as<float>(), biases.as<float>(),
                  out.as<float>(), chosen);
    return;
  }
  const std::int64_t in_features = s.in_channels * s.time, out_features = s.out_channels * s.pooled;
  const std::int64_t windows = layout.blocks * layout.columns;
  const Scratch<float> x(windows * in_features), y(windows * out_features);
  const Scratch<std::uint8_t> where(chosen ? windows * out_features : 0);
  const auto for_blocks = [&](std::int64_t features, auto body) {
    parallel_pieces(layout.blocks, layout.columns * features,
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t block = begin; block < end; ++block) body(block);
                    });
  };
  for_blocks(in_features, [&](std::int64_t block) {
    to_columns(in.as<float>(), batch, in_features, layout.columns, block, x.get());
  });
  run_conv_pool(s, layout, x.get(), weights.as<float>(), biases.as<float>(), y.get(),
                chosen ? where.get() : nullptr);
  for_blocks(out_features, [&](std::int64_t block) {
    from_columns(y.get(), batch, out_features, layout.columns, block, out.as<float>());
    if (chosen) from_columns(where.get(), batch, out_features, layout.columns, block, chosen);
  });
}

inline void conv_pool_backward(py::handle grad, py::handle choice, py::handle signals,
                               py::handle weight, py::handle grad_signals, py::handle grad_weight,
                               py::handle grad_bias) {
  const TensorView weights = float_view(weight, "weight", {-1, -1, -1});
  const TensorView in = float_view(signals, "signals", {-1, weights.raw.shape[1], -1});
  const std::int64_t batch = in.raw.shape[0];
  const ConvPoolShape s = conv_pool_shape(weights, batch, in.raw.shape[2]);
  const TensorView dy = float_view(grad, "grad", {batch, s.out_channels, s.pooled});
  const std::uint8_t* chosen = choice_view(choice, dy.size);
  const TensorView dw =
      float_view(grad_weight, "grad_weight", {s.out_channels, s.in_channels, s.kernel});
  const TensorView db = float_view(grad_bias, "grad_bias", {s.out_channels});
  float* dx = nullptr;
  if (!grad_signals.is_none()) {
    dx = float_view(grad_signals, "grad_signals", {batch, s.in_channels, s.time}).as<float>();
  }
  BatchInColumns layout = plan_columns(batch);
  if (layout.columns == 1) layout.columns = kColumnGranule;
  const std::int64_t in_features = s.in_channels * s.time, out_features = s.out_channels * s.pooled;
  const std::int64_t windows = layout.blocks * layout.columns;
  const Scratch<float> x(windows * in_features), y(windows * out_features),
      dx_columns(dx ? windows * in_features : 0),
      memory(cpu::conv_pool_workspace_floats(s, layout));
  const Scratch<std::uint8_t> where(windows * out_features);
  for (std::int64_t block = 0; block < layout.blocks; ++block) {
    to_columns(in.as<float>(), batch, in_features, layout.columns, block, x.get());
    to_columns(dy.as<float>(), batch, out_features, layout.columns, block, y.get());
    to_columns(chosen, batch, out_features, layout.columns, block, where.get());
  }
  run_conv_pool_backward(s, layout, y.get(), where.get(), x.get(), weights.as<float>(),
                         memory.get(), dx ? dx_columns.get() : nullptr, dw.as<float>(),
                         db.as<float>());
  for (std::int64_t block = 0; dx && block < layout.blocks; ++block) {
    from_columns(dx_columns.get(), batch, in_features, layout.columns, block, dx);
  }
}

}  // namespace smoothdistill
