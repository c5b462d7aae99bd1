// Runs one CPU kernel some number of times: instructions KERNEL TIMES; prints the elements of one.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "adam_ema.h"
#include "conv_pool.h"
#include "ema_update.h"
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

// The second convolution of MTL-net, a few outputs of it; elements are multiply-adds.
std::int64_t conv_pool(int times) {
  constexpr ConvPoolShape kShape{16, 32, 16, 12, 9, 4};
  constexpr BatchInColumns kLayout{1, kShape.batch};
  const std::vector<float> x = numbers(kShape.in_channels * kShape.time * 16, 0);
  const std::vector<float> weight =
      numbers(kShape.out_channels * kShape.in_channels * kShape.kernel, 1);
  const std::vector<float> bias = numbers(kShape.out_channels, 2);
  std::vector<float> y(static_cast<std::size_t>(kShape.out_channels * kShape.pooled * 16));
  std::vector<std::uint8_t> choice(y.size());
  for (int i = 0; i < times; ++i) {
    cpu::baseline::conv_pool_forward(kShape, kLayout, x.data(), weight.data(), bias.data(),
                                     y.data(), choice.data(), 0, 0, kShape.pooled);
  }
  return kShape.batch * kShape.out_channels * 2 * kShape.pooled * kShape.in_channels *
         kShape.kernel;
}

}  // namespace

int main(int, char** arguments) {
  const std::string kernel = arguments[1];
  const int times = std::atoi(arguments[2]);
  const std::int64_t elements = kernel == "adam_ema"            ? adam_ema(times)
                                : kernel == "ema_update"        ? ema_update(times)
                                : kernel == "multitask_kd_loss" ? multitask_kd_loss(times)
                                                                : conv_pool(times);
  std::printf("%lld\n", static_cast<long long>(elements));
}
