// Runs one CPU kernel some number of times: instructions KERNEL TIMES; prints the elements of one.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "adam_ema.h"
#include "conv_pool.h"
#include "ema_update.h"
#include "linear.h"
#include "multitask_kd_loss.h"

using namespace smoothdistill;

namespace {

std::vector<float> numbers(std::int64_t size, unsigned seed) {
  std::vector<float> found(static_cast<std::size_t>(size));
  for (float& value : found) {
    seed = seed * 1664525U + 1013904223U;
    value = static_cast<float>(seed >> 8) * 0x1p-24F - 0.5F;
  }
  return found;
}

// A weight, its gradient, two moments and a teacher.
std::int64_t adam_ema(int times) {
  constexpr std::int64_t kSize = 4096;
  std::vector<float> tensors[5];
  for (unsigned i = 0; i < 5; ++i) tensors[i] = numbers(kSize, i);
  for (float& value : tensors[3]) value *= value;
  const AdamOptions options{1e-3, 0.9, 0.999, 1e-8, 0.0, false, 1.0};
  const AdamSpan<float> span{tensors[0].data(),
                             tensors[1].data(),
                             tensors[2].data(),
                             tensors[3].data(),
                             tensors[4].data(),
                             kSize,
                             adam_factors<float>(options, 1.0)};
  for (int i = 0; i < times; ++i) cpu::baseline::adam_ema(span, 0, kSize, 0.999);
  return kSize;
}

std::int64_t ema_update(int times) {
  constexpr std::int64_t kSize = 4096;
  std::vector<float> teacher = numbers(kSize, 0);
  const std::vector<float> student = numbers(kSize, 1);
  const EmaSpan span{teacher.data(), student.data(), kSize, EmaKind::kFloat32};
  for (int i = 0; i < times; ++i) cpu::baseline::ema_update(span, 0, kSize, 0.999);
  return kSize;
}

// 64 windows, 12 classes, with a teacher.
std::int64_t multitask_kd_loss(int times) {
  constexpr std::int64_t kRows = 64, kClasses = 12;
  const std::vector<float> student = numbers(kRows * kClasses, 0);
  const std::vector<float> teacher = numbers(kRows * kClasses, 1);
  std::vector<float> gradient(kRows * kClasses);
  std::vector<std::int64_t> targets(kRows);
  for (std::int64_t row = 0; row < kRows; ++row)
    targets[static_cast<std::size_t>(row)] = row % kClasses;
  LossHead<float> head{};
  head.student = student.data();
  head.teacher = teacher.data();
  head.targets = targets.data();
  head.gradient = gradient.data();
  head.num_rows = kRows;
  head.num_classes = kClasses;
  head.ignore_index = -100;
  head.task_weight = head.distill_weight = 1.0;
  head.temperature = 3.0;
  loss_denominators(head);
  for (int i = 0; i < times; ++i) cpu::baseline::multitask_kd_loss(head, 0, kRows);
  return kRows * kClasses;
}

// The second convolution of MTL-net, half of its outputs.
constexpr ConvPoolShape kConv{16, 32, 32, 12, 9, 12};
constexpr BatchInColumns kColumns{1, kConv.batch};
constexpr std::int64_t kProducts = kConv.in_channels * kConv.kernel;  // of one output

struct ConvPool {
  std::vector<float> x = numbers(kConv.in_channels * kConv.time * kConv.batch, 0);
  std::vector<float> weight = numbers(kConv.out_channels * kProducts, 1);
  std::vector<float> bias = numbers(kConv.out_channels, 2);
  std::vector<float> y = numbers(kConv.out_channels * kConv.pooled * kConv.batch, 3);
  std::vector<std::uint8_t> choice = std::vector<std::uint8_t>(y.size());

  void forward() {
    cpu::baseline::conv_pool_forward(kConv, kColumns, x.data(), weight.data(), bias.data(),
                                     y.data(), choice.data(), 0, 0, kConv.pooled);
  }
};

// Elements are multiply-adds.
std::int64_t conv_pool(int times) {
  ConvPool layer;
  for (int i = 0; i < times; ++i) layer.forward();
  return kConv.batch * kConv.out_channels * 2 * kConv.pooled * kProducts;
}

// Gradients of weight, bias and signals, where about half of the outputs are open. Elements are
// the multiply-adds of those.
std::int64_t conv_pool_backward(int times) {
  ConvPool layer;
  layer.forward();
  const std::vector<float> dy = numbers(static_cast<std::int64_t>(layer.y.size()), 4);
  std::vector<float> memory(
      static_cast<std::size_t>(cpu::conv_pool_workspace_floats(kConv, kColumns)));
  const cpu::ConvPoolWorkspace workspace = cpu::conv_pool_workspace(memory.data(), kConv, kColumns);
  for (int i = 0; i < times; ++i) {
    cpu::baseline::conv_pool_gather(kConv, kColumns, layer.x.data(), workspace, 0);
    cpu::baseline::conv_pool_turn_weights(kConv, layer.weight.data(), workspace);
    cpu::baseline::conv_pool_backward_weight(kConv, kColumns, dy.data(), layer.choice.data(),
                                             workspace, layer.weight.data(), layer.bias.data(), 0,
                                             kConv.out_channels);
    cpu::baseline::conv_pool_backward_input(kConv, kColumns, dy.data(), layer.choice.data(),
                                            workspace, layer.x.data(), 0);
  }
  std::int64_t open = 0;
  for (const std::uint8_t choice : layer.choice) open += choice != 2;
  return 2 * open * kProducts;
}

// A layer of 240 to 48 features, 64 windows; elements are multiply-adds.
constexpr LinearShape kLinear{240, 48, 1, 64};

std::int64_t linear_forward(int times) {
  const std::vector<float> x = numbers(kLinear.in_features * kLinear.columns, 0);
  const std::vector<float> weight = numbers(kLinear.in_features * kLinear.out_features, 1);
  std::vector<float> y(static_cast<std::size_t>(kLinear.out_features * kLinear.columns));
  for (int i = 0; i < times; ++i) {
    cpu::baseline::linear_forward(kLinear, weight.data(), nullptr, x.data(), true, y.data(), 0, 0,
                                  kLinear.out_features);
  }
  return kLinear.in_features * kLinear.out_features * kLinear.columns;
}

std::int64_t linear_backward(int times) {
  const std::vector<float> x = numbers(kLinear.in_features * kLinear.columns, 0);
  const std::vector<float> weight = numbers(kLinear.in_features * kLinear.out_features, 1);
  const std::vector<float> dy = numbers(kLinear.out_features * kLinear.columns, 2);
  std::vector<float> dx(x.size()), dw(weight.size());
  std::vector<float> panels(static_cast<std::size_t>(linear_panel_floats(kLinear)));
  for (int i = 0; i < times; ++i) {
    cpu::baseline::linear_backward_input(kLinear, weight.data(), dy.data(), nullptr, false,
                                         dx.data(), 0, 0, kLinear.in_features);
    cpu::baseline::linear_pack(kLinear, x.data(), panels.data(), 0);
    cpu::baseline::linear_backward_weight(kLinear, dy.data(), panels.data(), dw.data(), nullptr,
                                          0.0, 0, kLinear.out_features);
  }
  return 2 * kLinear.in_features * kLinear.out_features * kLinear.columns;
}

}  // namespace

int main(int, char** arguments) {
  const std::string kernel = arguments[1];
  const int times = std::atoi(arguments[2]);
  const std::map<std::string, std::int64_t (*)(int)> kernels{
      {"adam_ema", adam_ema},
      {"conv_pool", conv_pool},
      {"conv_pool_backward", conv_pool_backward},
      {"ema_update", ema_update},
      {"linear", linear_forward},
      {"linear_backward", linear_backward},
      {"multitask_kd_loss", multitask_kd_loss}};
  std::printf("%lld\n", static_cast<long long>(kernels.at(kernel)(times)));
}
