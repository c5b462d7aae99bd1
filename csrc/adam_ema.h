// adam_ema: one Adam or AdamW step of every tensor and the EMA of the new weights, in one pass.
//   g      = grad * clip_factor / grad_scale        (Adam: + weight_decay * weight)
//   weight = weight * (1 - lr * weight_decay)       (AdamW only)
//   m      = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
//   weight = weight - lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
//   teacher = decay * teacher + (1 - decay) * weight
// Source: Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2.
// Contract: contiguous tensors of one type (float32 or float64) and equal lengths that do not
// overlap; weights and gradients may be bfloat16 or float16 beside float32 moments and teacher: the
// step is made in float32, its weight rounded once, and the rounded weight averaged. The gradients
// are left intact. A tensor without a gradient takes part in the EMA alone.
// float32 rounds once an operation; the bias corrections are computed in double. Whether the step
// is skipped (found_inf), and the step counts, are the caller's business on the CPU. On CUDA both,
// lr and decay may lie on the device: nothing is read back, and the counts of a skipped step stay.
// Floor: 36 bytes an element in float32 (five reads, four writes), 30 beside half weights.
#pragma once

#include <cstdint>

#include "device_number.h"
#include "elementwise.h"
#include "simd.h"

namespace smoothdistill {

template <class T, class W = T>
struct AdamSpan {
  W* weight;
  const W* gradient;  // null: EMA alone
  T* exp_avg;
  T* exp_avg_sq;
  T* teacher;  // null: no EMA
  std::int64_t length;
  AdamFactors<T> factors;
};

struct AdamOptions {
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  bool decoupled;
  double gradient_factor;
};

// The factors of update number `step` (from 1).
template <class T>
SD_MATH AdamFactors<T> adam_factors(const AdamOptions& options, double step) {
  const double correction1 = 1.0 - power(options.beta1, step);
  const double correction2 = 1.0 - power(options.beta2, step);
  AdamFactors<T> f;
  f.gradient_factor = static_cast<T>(options.gradient_factor);
  f.coupled_weight_decay = static_cast<T>(options.decoupled ? 0.0 : options.weight_decay);
  f.weight_factor =
      static_cast<T>(options.decoupled ? 1.0 - options.lr * options.weight_decay : 1.0);
  f.one_minus_beta1 = static_cast<T>(1.0 - options.beta1);
  f.beta2 = static_cast<T>(options.beta2);
  f.one_minus_beta2 = static_cast<T>(1.0 - options.beta2);
  f.step_size = static_cast<T>(options.lr / correction1);
  f.second_factor = static_cast<T>(1.0 / square_root(correction2));
  f.eps = static_cast<T>(options.eps);
  return f;
}

namespace cpu {

SD_PER_LEVEL(void adam_ema(const AdamSpan<float>& span, std::int64_t begin, std::int64_t end,
                           double decay);
             void adam_ema(const AdamSpan<double>& span, std::int64_t begin, std::int64_t end,
                           double decay);
             void adam_ema(const AdamSpan<float, Bfloat16>& span, std::int64_t begin,
                           std::int64_t end, double decay);
             void adam_ema(const AdamSpan<float, Float16>& span, std::int64_t begin,
                           std::int64_t end, double decay);)

}  // namespace cpu

namespace cuda {

// Which update a tensor is at: one more than its device counter says, which is then counted up, or
// else (null) `number`. No two tensors share a counter.
struct AdamStep {
  float* counter;
  double number;
};

struct AdamSettings {
  AdamOptions options;  // without lr, and gradient_factor, which is clip_factor / grad_scale
  DeviceNumber lr;
  DeviceNumber decay;
  DeviceNumber grad_scale;
  DeviceNumber clip_factor;
  DeviceNumber found_inf;  // not 0: nothing changes
  unsigned* ticket;        // zero, of nobody else: counts counters up in the same launch; or null
};

// Launches on `stream` of the current device; returns a cudaError_t. The factors inside the spans
// are not used.
int adam_ema(const AdamSpan<float>* spans, const AdamStep* steps, std::int64_t num_spans,
             const AdamSettings& settings, void* stream);
int adam_ema(const AdamSpan<double>* spans, const AdamStep* steps, std::int64_t num_spans,
             const AdamSettings& settings, void* stream);
int adam_ema(const AdamSpan<float, Bfloat16>* spans, const AdamStep* steps, std::int64_t num_spans,
             const AdamSettings& settings, void* stream);
int adam_ema(const AdamSpan<float, Float16>* spans, const AdamStep* steps, std::int64_t num_spans,
             const AdamSettings& settings, void* stream);

}  // namespace cuda
}  // namespace smoothdistill
