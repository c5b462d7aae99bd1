// CPU kernel of adam_ema; the contract is in csrc/adam_ema.h.
#include "adam_ema.h"

namespace smoothdistill::cpu::SD_LEVEL {
namespace {

// Without a teacher, decay 1 and a copy of the weight in a register would cost the extra stream,
// so the three cases are three loops.
template <class T>
void step_and_average(const AdamSpan<T>& span, std::int64_t begin, std::int64_t end, T ema_weight) {
  T* __restrict weight = span.weight;
  const T* __restrict gradient = span.gradient;
  T* __restrict exp_avg = span.exp_avg;
  T* __restrict exp_avg_sq = span.exp_avg_sq;
  T* __restrict teacher = span.teacher;
  const AdamFactors<T> factors = span.factors;
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    T w = weight[i], m = exp_avg[i], v = exp_avg_sq[i];
    adam_element(w, gradient[i], m, v, factors);
    weight[i] = w;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    teacher[i] = lerp(teacher[i], w, ema_weight);
  }
}

template <class T>
void step_only(const AdamSpan<T>& span, std::int64_t begin, std::int64_t end) {
  T* __restrict weight = span.weight;
  const T* __restrict gradient = span.gradient;
  T* __restrict exp_avg = span.exp_avg;
  T* __restrict exp_avg_sq = span.exp_avg_sq;
  const AdamFactors<T> factors = span.factors;
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    T w = weight[i], m = exp_avg[i], v = exp_avg_sq[i];
    adam_element(w, gradient[i], m, v, factors);
    weight[i] = w;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
  }
}

template <class T>
void average_only(const AdamSpan<T>& span, std::int64_t begin, std::int64_t end, T ema_weight) {
  const T* __restrict weight = span.weight;
  T* __restrict teacher = span.teacher;
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) teacher[i] = lerp(teacher[i], weight[i], ema_weight);
}

template <class T>
void copy_to_teacher(const AdamSpan<T>& span, std::int64_t begin, std::int64_t end) {
  __builtin_memcpy(span.teacher + begin, span.weight + begin,
                   static_cast<std::size_t>(end - begin) * sizeof(T));
}

template <class T>
void run(const AdamSpan<T>& span, std::int64_t begin, std::int64_t end, double decay) {
  const T ema_weight = static_cast<T>(1.0 - decay);
  const bool averages = span.teacher != nullptr && decay != 1.0 && decay != 0.0;
  if (span.gradient == nullptr) {
    if (averages) average_only(span, begin, end, ema_weight);
  } else if (averages) {
    step_and_average(span, begin, end, ema_weight);
  } else {
    step_only(span, begin, end);
  }
  if (span.teacher != nullptr && decay == 0.0) copy_to_teacher(span, begin, end);
}

}  // namespace

void adam_ema(const AdamSpan<float>& span, std::int64_t begin, std::int64_t end, double decay) {
  run(span, begin, end, decay);
}

void adam_ema(const AdamSpan<double>& span, std::int64_t begin, std::int64_t end, double decay) {
  run(span, begin, end, decay);
}

}  // namespace smoothdistill::cpu::SD_LEVEL
