// linear for `_core`: from tensors to calls of the kernels, cut into pieces for threads.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>

#include "adam_ema.h"
#include "column_arguments.h"
#include "linear.h"
#include "simd.h"

namespace smoothdistill {

constexpr std::int64_t kRowPiece = 48;      // rows of a weight: whole tiles of every width
constexpr std::int64_t kFeaturePiece = 96;  // input features: the same, and whole cache lines

// Calls body(begin, end) with ranges of [0, size) that begin at multiples of `piece`.
template <class Body>
void parallel_ranges(std::int64_t size, std::int64_t piece, std::int64_t work_of_one, Body body) {
  parallel_pieces((size + piece - 1) / piece, piece * work_of_one,
                  [&](std::int64_t begin, std::int64_t end) {
                    body(begin * piece, std::min(end * piece, size));
                  });
}

inline LinearShape linear_shape(const TensorView& weight, const TensorView& x) {
  require_columns(x.raw.shape[2]);
  return {weight.raw.shape[1], weight.raw.shape[0], x.raw.shape[0], x.raw.shape[2]};
}

inline void run_linear_forward(const LinearShape& s, const float* x, const float* weight,
                               const float* bias, bool relu, float* y) {
  parallel_ranges(s.out_features, kRowPiece, s.in_features * s.columns * s.blocks,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t block = 0; block < s.blocks; ++block) {
                      SD_CALL(linear_forward, s, weight, bias, x, relu, y, block, begin, end);
                    }
                  });
}

inline void linear_forward(py::handle x, py::handle weight, py::handle bias, bool relu,
                           py::handle y) {
  const TensorView weights = float_view(weight, "weight", {-1, -1});
  const TensorView in = float_view(x, "x", {-1, weights.raw.shape[1], -1});
  const LinearShape s = linear_shape(weights, in);
  const TensorView out = float_view(y, "y", {s.blocks, s.out_features, s.columns});
  const float* biases =
      bias.is_none() ? nullptr : float_view(bias, "bias", {s.out_features}).as<float>();
  run_linear_forward(s, in.as<float>(), weights.as<float>(), biases, relu, out.as<float>());
}

inline void linear_backward_input(py::handle dy, py::handle weight, py::handle gate,
                                  bool accumulates, py::handle dx) {
  const TensorView weights = float_view(weight, "weight", {-1, -1});
  const TensorView grad = float_view(dy, "dy", {-1, weights.raw.shape[0], -1});
  LinearShape s = linear_shape(weights, grad);
  const TensorView out = float_view(dx, "dx", {s.blocks, s.in_features, s.columns});
  const float* gates = nullptr;
  if (!gate.is_none()) {
    gates = float_view(gate, "gate", {s.blocks, s.in_features, s.columns}).as<float>();
  }
  require_many_columns(s.columns);
  parallel_ranges(s.in_features, kFeaturePiece, s.out_features * s.columns * s.blocks,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t block = 0; block < s.blocks; ++block) {
                      SD_CALL(linear_backward_input, s, weights.as<float>(), grad.as<float>(),
                              gates, accumulates, out.as<float>(), block, begin, end);
                    }
                  });
}

// Gradient of weight and bias; where `update` is given, the weight's Adam step in its place.
inline void run_linear_backward_weight(const LinearShape& s, const TensorView& dy,
                                       const TensorView& x, py::handle panels, float* dw,
                                       const AdamSpan<float>* update, double decay, float* db) {
  const TensorView memory = float_view(panels, "panels", {-1});
  require_floats(memory, "panels", linear_panel_floats(s));
  require_many_columns(s.columns);
  parallel_pieces(s.blocks, s.in_features * s.columns, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      SD_CALL(linear_pack, s, x.as<float>(), memory.as<float>(), block);
    }
  });
  parallel_ranges(s.out_features, kRowPiece, s.in_features * s.columns * s.blocks,
                  [&](std::int64_t begin, std::int64_t end) {
                    SD_CALL(linear_backward_weight, s, dy.as<float>(), memory.as<float>(), dw,
                            update, decay, db, begin, end);
                  });
}

inline void linear_backward_weight(py::handle dy, py::handle x, py::handle panels, py::handle dw,
                                   py::handle db) {
  const TensorView out = float_view(dw, "dw", {-1, -1});
  const TensorView in = float_view(x, "x", {-1, out.raw.shape[1], -1});
  const LinearShape s = linear_shape(out, in);
  const TensorView grad = float_view(dy, "dy", {s.blocks, s.out_features, s.columns});
  run_linear_backward_weight(s, grad, in, panels, out.as<float>(), nullptr, 1.0,
                             float_view(db, "db", {s.out_features}).as<float>());
}

inline void linear_adam_ema(py::handle dy, py::handle x, py::handle panels, py::handle weight,
                            py::handle exp_avg, py::handle exp_avg_sq, py::handle teacher,
                            py::handle step, double lr, double beta1, double beta2, double eps,
                            double weight_decay, bool decoupled, double decay, py::handle db) {
  const TensorView weights = float_view(weight, "weight", {-1, -1});
  const TensorView in = float_view(x, "x", {-1, weights.raw.shape[1], -1});
  const LinearShape s = linear_shape(weights, in);
  const TensorView grad = float_view(dy, "dy", {s.blocks, s.out_features, s.columns});
  const auto like = [&](py::handle tensor, const char* name) {
    return float_view(tensor, name, {s.out_features, s.in_features}).as<float>();
  };
  const TensorView counter = view(step.ptr(), dlpack::kAnyCpu, {"step"});
  if (!counter.is(dlpack::kFloat, 32) || counter.size != 1) {
    throw py::type_error("`step` must be one float32 element, but is " +
                         dtype_name(counter.raw.dtype) + " " + shape_text(counter) + " instead.");
  }
  AdamSpan<float> update{};
  update.weight = weights.as<float>();
  update.exp_avg = like(exp_avg, "exp_avg");
  update.exp_avg_sq = like(exp_avg_sq, "exp_avg_sq");
  update.teacher = teacher.is_none() ? nullptr : like(teacher, "teacher");
  update.length = weights.size;
  const AdamOptions options{lr, beta1, beta2, eps, weight_decay, decoupled, 1.0};
  update.factors = adam_factors<float>(options, static_cast<double>(*counter.as<float>()) + 1.0);
  float* bias_gradient = float_view(db, "db", {s.out_features}).as<float>();
  run_linear_backward_weight(s, grad, in, panels, nullptr, &update, decay, bias_gradient);
  *counter.as<float>() += 1.0F;
}

}  // namespace smoothdistill
