// A whole forward pass for `_core`: conv_pool layers, linear layers and heads in one call.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "arguments.h"
#include "column_arguments.h"
#include "conv_pool_calls.h"
#include "linear_calls.h"

namespace smoothdistill {

struct ConvLayer {
  ConvPoolShape shape;
  const float* weight;
  const float* bias;
};

struct LinearLayer {
  LinearShape shape;
  const float* weight;
  const float* bias;
};

// Logits of a network of conv_pool layers, linear layers with ReLU, and linear heads, without a
// gradient: signals [batch, channels, time] -> one [batch, classes] a head. Blocks of windows go
// through the whole network one after the other, so that activations never leave the L2 cache.
class ConvNet {
 public:
  ConvNet(py::handle signals, py::handle conv_weights, py::handle conv_biases,
          py::handle linear_weights, py::handle linear_biases, py::handle head_weights,
          py::handle head_biases, py::handle logits)
      : signals_(float_view(signals, "signals", {-1, -1, -1})) {
    batch_ = signals_.raw.shape[0];
    layout_ = plan_columns(batch_);
    std::int64_t channels = signals_.raw.shape[1], time = signals_.raw.shape[2];
    largest_ = channels * time;
    const TensorList weights(conv_weights, "conv_weights"), biases(conv_biases, "conv_biases");
    biases.require_size(weights.size(), "conv_weights");
    for (std::int64_t i = 0; i < weights.size(); ++i) {
      const TensorView weight = float_view(weights[i], "conv_weights", {-1, channels, -1});
      const ConvPoolShape shape = conv_pool_shape(weight, layout_.columns, time);
      if (shape.pooled < 1) {
        throw py::value_error(
            "`signals` must be longer than the kernels and pools take, but has "
            "the shape " +
            shape_text(signals_) + " instead.");
      }
      const TensorView bias = float_view(biases[i], "conv_biases", {shape.out_channels});
      convs_.push_back({shape, weight.as<float>(), bias.as<float>()});
      channels = shape.out_channels;
      time = shape.pooled;
      largest_ = std::max(largest_, channels * time);
    }
    features_ = add_linear(linears_, linear_weights, linear_biases, channels * time, true);
    add_linear(heads_, head_weights, head_biases, features_, false);
    const TensorList outputs(logits, "logits");
    outputs.require_size(static_cast<std::int64_t>(heads_.size()), "head_weights");
    for (std::size_t i = 0; i < heads_.size(); ++i) {
      logits_.push_back(float_view(outputs[static_cast<std::int64_t>(i)], "logits",
                                   {batch_, heads_[i].shape.out_features})
                            .as<float>());
    }
  }

  void run() const {
    constexpr std::int64_t kEnough = 2 * kProductGrain;  // any two blocks are worth two threads
    parallel_pieces(layout_.blocks, kEnough, [&](std::int64_t begin, std::int64_t end) {
      const Scratch<float> first(largest_ * layout_.columns), second(largest_ * layout_.columns);
      for (std::int64_t block = begin; block < end; ++block) run(block, first.get(), second.get());
    });
  }

 private:
  std::int64_t add_linear(std::vector<LinearLayer>& layers, py::handle weights, py::handle biases,
                          std::int64_t features, bool chains) {
    const TensorList all(weights, "weights"), offsets(biases, "biases");
    offsets.require_size(all.size(), "weights");
    for (std::int64_t i = 0; i < all.size(); ++i) {
      const TensorView weight = float_view(all[i], "weights", {-1, features});
      const std::int64_t out = weight.raw.shape[0];
      const TensorView bias = float_view(offsets[i], "biases", {out});
      layers.push_back({{features, out, 1, layout_.columns}, weight.as<float>(), bias.as<float>()});
      largest_ = std::max(largest_, out);
      if (chains) features = out;
    }
    return features;
  }

  void run(std::int64_t block, float* x, float* y) const {
    const std::int64_t columns = layout_.columns, first = block * columns;
    const std::int64_t filled = std::min(columns, batch_ - first);
    const std::int64_t in_features = signals_.raw.shape[1] * signals_.raw.shape[2];
    to_columns(signals_.as<float>() + first * in_features, filled, in_features, columns, 0, x);
    for (const ConvLayer& layer : convs_) {
      run_conv_pool(layer.shape, {1, columns}, x, layer.weight, layer.bias, y, nullptr);
      std::swap(x, y);
    }
    for (const LinearLayer& layer : linears_) {
      run_linear_forward<FloatKernels>(layer.shape, x, layer.weight, layer.bias, true, y);
      std::swap(x, y);
    }
    for (std::size_t i = 0; i < heads_.size(); ++i) {
      const LinearLayer& layer = heads_[i];
      const std::int64_t classes = layer.shape.out_features;
      run_linear_forward<FloatKernels>(layer.shape, x, layer.weight, layer.bias, false, y);
      from_columns(y, filled, classes, columns, 0, logits_[i] + first * classes);
    }
  }

  TensorView signals_;
  std::int64_t batch_ = 0, largest_ = 0, features_ = 0;
  BatchInColumns layout_{};
  std::vector<ConvLayer> convs_;
  std::vector<LinearLayer> linears_, heads_;
  std::vector<float*> logits_;
};

inline void conv_net_logits(py::handle signals, py::handle conv_weights, py::handle conv_biases,
                            py::handle linear_weights, py::handle linear_biases,
                            py::handle head_weights, py::handle head_biases, py::handle logits) {
  ConvNet(signals, conv_weights, conv_biases, linear_weights, linear_biases, head_weights,
          head_biases, logits)
      .run();
}

}  // namespace smoothdistill
