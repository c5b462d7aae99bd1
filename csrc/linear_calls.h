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

// The kernels of float32, whose factors are the tensors themselves.
struct FloatKernels {
  using Factor = float;
  static TensorView view(py::handle tensor, const char* name,
                         std::initializer_list<std::int64_t> shape) {
    return float_view(tensor, name, shape);
  }
  static constexpr std::int64_t kNumbers = 1;  // that a factor holds
  static std::int64_t backward_weight_memory(const LinearShape& s) {
    return linear_panel_floats(s);
  }
  static const float* features(const TensorView& from, py::handle) { return from.as<float>(); }
  static const float* windows(const TensorView& from, float*) { return from.as<float>(); }

  template <class... Given>
  static void forward(const Given&... given) {
    SD_CALL(linear_forward, given...);
  }
  template <class... Given>
  static void backward_input(const Given&... given) {
    SD_CALL(linear_backward_input, given...);
  }
  template <class... Given>
  static void pack(const Given&... given) {
    SD_CALL(linear_pack, given...);
  }
  template <class... Given>
  static void backward_weight(const Given&... given) {
    SD_CALL(linear_backward_weight, given...);
  }
};

#if defined(SMOOTHDISTILL_HAS_X86_LEVELS)
// The kernels of bfloat16, for which the calls pair x and dy in memory that is lent.
struct Bfloat16Kernels {
  using Factor = BfloatPair;
  static constexpr std::int64_t kNumbers = 2;
  static TensorView view(py::handle tensor, const char* name,
                         std::initializer_list<std::int64_t> shape) {
    return pair_view(tensor, name, shape);
  }
  static std::int64_t backward_weight_memory(const LinearShape& s) {
    return (linear_panel_floats(s) + s.blocks * s.out_features * s.columns) / kNumbers;
  }
  static const BfloatPair* windows(const TensorView& from, BfloatPair* to) {
    cpu::avx512_bf16::linear_pair_neighbours(from.as<float>(), from.size, to);
    return to;
  }
  // Pairs of features [blocks, (features + 1) / 2, columns].
  static const BfloatPair* features(const TensorView& from, py::handle memory) {
    const std::int64_t blocks = from.raw.shape[0], features = from.raw.shape[1];
    const std::int64_t columns = from.raw.shape[2], num_pairs = (features + 1) / 2;
    const TensorView to = pair_view(memory, "memory", {-1});
    require_elements(to, "memory", blocks * num_pairs * columns);
    auto* pairs = to.as<BfloatPair>();
    for (std::int64_t block = 0; block < blocks; ++block) {
      cpu::avx512_bf16::linear_pair_rows(from.as<float>() + block * features * columns, features,
                                         columns, pairs + block * num_pairs * columns);
    }
    return pairs;
  }

  template <class... Given>
  static void forward(const Given&... given) {
    cpu::avx512_bf16::linear_forward(given...);
  }
  template <class... Given>
  static void backward_input(const Given&... given) {
    cpu::avx512_bf16::linear_backward_input(given...);
  }
  template <class... Given>
  static void pack(const Given&... given) {
    cpu::avx512_bf16::linear_pack(given...);
  }
  template <class... Given>
  static void backward_weight(const Given&... given) {
    cpu::avx512_bf16::linear_backward_weight(given...);
  }
};

#endif

template <class Kernels, class Factor = typename Kernels::Factor>
void run_linear_forward(const LinearShape& s, const Factor* x, const float* weight,
                        const float* bias, bool relu, float* y) {
  parallel_ranges(s.out_features, kRowPiece, s.in_features * s.columns * s.blocks,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t block = 0; block < s.blocks; ++block) {
                      Kernels::forward(s, weight, bias, x, relu, y, block, begin, end);
                    }
                  });
}

// memory: lent for pairs; not looked at where the factors are the tensors themselves.
template <class Kernels>
void linear_forward(py::handle x, py::handle weight, py::handle bias, bool relu, py::handle y,
                    py::handle memory) {
  const TensorView weights = float_view(weight, "weight", {-1, -1});
  const TensorView in = float_view(x, "x", {-1, weights.raw.shape[1], -1});
  const LinearShape s = linear_shape(weights, in);
  const TensorView out = float_view(y, "y", {s.blocks, s.out_features, s.columns});
  if (Kernels::kNumbers > 1) require_many_columns(s.columns);
  const float* biases =
      bias.is_none() ? nullptr : float_view(bias, "bias", {s.out_features}).as<float>();
  run_linear_forward<Kernels>(s, Kernels::features(in, memory), weights.as<float>(), biases, relu,
                              out.as<float>());
}

template <class Kernels, class Factor = typename Kernels::Factor>
void run_linear_backward_input(const LinearShape& s, const Factor* dy, const float* weight,
                               const float* gate, bool accumulates, float* dx) {
  parallel_ranges(s.in_features, kFeaturePiece, s.out_features * s.columns * s.blocks,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t block = 0; block < s.blocks; ++block) {
                      Kernels::backward_input(s, weight, dy, gate, accumulates, dx, block, begin,
                                              end);
                    }
                  });
}

template <class Kernels>
void linear_backward_input(py::handle dy, py::handle weight, py::handle gate, bool accumulates,
                           py::handle dx, py::handle memory) {
  const TensorView weights = float_view(weight, "weight", {-1, -1});
  const TensorView grad = float_view(dy, "dy", {-1, weights.raw.shape[0], -1});
  const LinearShape s = linear_shape(weights, grad);
  const TensorView out = float_view(dx, "dx", {s.blocks, s.in_features, s.columns});
  const float* gates = nullptr;
  if (!gate.is_none()) {
    gates = float_view(gate, "gate", {s.blocks, s.in_features, s.columns}).as<float>();
  }
  require_many_columns(s.columns);
  run_linear_backward_input<Kernels>(s, Kernels::features(grad, memory), weights.as<float>(), gates,
                                     accumulates, out.as<float>());
}

// Gradient of weight and bias; where `update` is given, the weight's Adam step in its place.
template <class Kernels>
void run_linear_backward_weight(const LinearShape& s, const TensorView& dy, const TensorView& x,
                                py::handle panels, float* dw, const AdamSpan<float>* update,
                                double decay, float* db) {
  using Factor = typename Kernels::Factor;
  const TensorView memory = Kernels::view(panels, "panels", {-1});
  require_elements(memory, "panels", Kernels::backward_weight_memory(s));
  require_many_columns(s.columns);
  auto* packed = memory.as<Factor>();
  parallel_pieces(s.blocks, s.in_features * s.columns, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      Kernels::pack(s, x.as<float>(), packed, block);
    }
  });
  const Factor* factors = Kernels::windows(dy, packed + linear_panel_floats(s) / Kernels::kNumbers);
  parallel_ranges(s.out_features, kRowPiece, s.in_features * s.columns * s.blocks,
                  [&](std::int64_t begin, std::int64_t end) {
                    Kernels::backward_weight(s, factors, packed, dw, update, decay, begin, end);
                    SD_CALL(linear_backward_bias, s, dy.as<float>(), db, begin, end);
                  });
}

template <class Kernels>
void linear_backward_weight(py::handle dy, py::handle x, py::handle panels, py::handle dw,
                            py::handle db) {
  const TensorView out = float_view(dw, "dw", {-1, -1});
  const TensorView in = float_view(x, "x", {-1, out.raw.shape[1], -1});
  const LinearShape s = linear_shape(out, in);
  const TensorView grad = float_view(dy, "dy", {s.blocks, s.out_features, s.columns});
  run_linear_backward_weight<Kernels>(s, grad, in, panels, out.as<float>(), nullptr, 1.0,
                                      float_view(db, "db", {s.out_features}).as<float>());
}

template <class Kernels>
void linear_adam_ema(py::handle dy, py::handle x, py::handle panels, py::handle weight,
                     py::handle exp_avg, py::handle exp_avg_sq, py::handle teacher, py::handle step,
                     double lr, double beta1, double beta2, double eps, double weight_decay,
                     bool decoupled, double decay, py::handle db) {
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
  run_linear_backward_weight<Kernels>(s, grad, in, panels, nullptr, &update, decay, bias_gradient);
  *counter.as<float>() += 1.0F;
}

}  // namespace smoothdistill
