// multitask_kd_loss: for one task, cross-entropy plus distillation and the gradient of
// task_weight * (CE + distill_weight * KD) with respect to the student's logits, in one pass.
//   CE = sum_b w[y_b] CE(z_b, y_b) / sum_b w[y_b]   (label smoothing s: (1-s) on the target's term,
//        s / classes on sum_c w[c] * -log softmax(z_b)[c], over the same denominator)
//   KD = T^2 / num_valid * sum_b KL(softmax(teacher_b / T) || softmax(z_b / T))
// over the rows whose target is not `ignore_index`; other rows get a zero gradient.
// Source: Hinton, Vinyals and Dean 2015, section 2; the published code of Smooth-Distill.
// Contract: contiguous rows of `num_classes` logits, targets int64; logits are left intact. The
// sums are exact to the rounding of one row, then accumulated in double, in an order that depends
// on the shapes alone. No row: zeros, no NaN. A target out of range is the caller's to refuse on
// the CPU; CUDA, which cannot without a sync, makes the total, that task's CE and that row's
// gradient NaN. Floor: reads both logits, writes the gradient: 12 bytes a logit in float32; 3
// exponentials.
#pragma once

#include <cstdint>

#include "elementwise.h"
#include "simd.h"

namespace smoothdistill {

template <class T>
struct LossHead {
  const T* student;             // [rows, num_classes]
  const T* teacher;             // same, or null: no distillation
  const std::int64_t* targets;  // [rows]
  const T* class_weights;       // [num_classes], or null: all 1
  T* gradient;                  // [rows, num_classes]
  std::int64_t num_rows;
  std::int64_t num_classes;
  std::int64_t ignore_index;
  double task_weight;
  double distill_weight;
  double temperature;
  double label_smoothing;
  // Where the two lie in the device's memory, or null. For CUDA alone: a captured graph follows
  // them.
  const float* distill_weight_at;
  const float* temperature_at;
  // Found by loss_denominators before the pass.
  std::int64_t num_valid;
  double label_weight;  // sum over valid rows of w[y]
  double class_weight_sum;
};

// Sums over rows, not yet divided.
struct LossSums {
  double cross_entropy;
  double divergence;
  std::int64_t num_correct;
};

// Fills the three last fields of `head`. Returns the first row whose target is neither
// ignore_index nor in [0, num_classes), or -1.
template <class T>
std::int64_t loss_denominators(LossHead<T>& head) {
  head.num_valid = 0;
  head.label_weight = 0.0;
  head.class_weight_sum = 0.0;
  for (std::int64_t row = 0; row < head.num_rows; ++row) {
    const std::int64_t target = head.targets[row];
    if (target == head.ignore_index) continue;
    if (target < 0 || target >= head.num_classes) return row;
    ++head.num_valid;
    head.label_weight += head.class_weights ? static_cast<double>(head.class_weights[target]) : 1.0;
  }
  for (std::int64_t c = 0; c < head.num_classes; ++c) {
    head.class_weight_sum += head.class_weights ? static_cast<double>(head.class_weights[c]) : 1.0;
  }
  return -1;
}

// The factors by which a row's softmaxes enter its gradient.
template <class T>
struct GradientFactors {
  T hard;  // task_weight / label_weight
  T soft;  // task_weight * distill_weight * T / num_valid
  T inverse_temperature;
  T target_share;  // 1 - label_smoothing
  T other_share;   // label_smoothing / num_classes
  T class_weight_sum;
};

template <class T>
SD_MATH GradientFactors<T> gradient_factors(const LossHead<T>& head) {
  GradientFactors<T> f;
  f.hard = static_cast<T>(head.label_weight > 0.0 ? head.task_weight / head.label_weight : 0.0);
  f.soft = static_cast<T>(head.teacher != nullptr && head.num_valid > 0
                              ? head.task_weight * head.distill_weight * head.temperature /
                                    static_cast<double>(head.num_valid)
                              : 0.0);
  f.inverse_temperature = static_cast<T>(1.0 / head.temperature);
  f.target_share = static_cast<T>(1.0 - head.label_smoothing);
  f.other_share = static_cast<T>(head.label_smoothing / static_cast<double>(head.num_classes));
  f.class_weight_sum = static_cast<T>(head.class_weight_sum);
  return f;
}

// What a head adds to the outputs.
struct LossParts {
  double cross_entropy;
  double distillation;
  double weighted;  // its share of the total
};

template <class T>
SD_MATH LossParts loss_parts(const LossHead<T>& head, const LossSums& sums) {
  LossParts parts;
  parts.cross_entropy = head.label_weight > 0.0 ? sums.cross_entropy / head.label_weight : 0.0;
  parts.distillation = head.num_valid > 0 ? head.temperature * head.temperature * sums.divergence /
                                                static_cast<double>(head.num_valid)
                                          : 0.0;
  parts.weighted =
      head.task_weight * (parts.cross_entropy + head.distill_weight * parts.distillation);
  return parts;
}

// Where the results go: one element, and one element a head for each of the others.
template <class T>
struct LossOutputs {
  T* total;
  T* cross_entropy;
  T* distillation;
  std::int64_t* num_correct;
  std::int64_t* num_valid;
};

namespace cpu {

// Rows [begin, end) of one head: writes their gradient and returns their sums.
SD_PER_LEVEL(LossSums multitask_kd_loss(const LossHead<float>& head, std::int64_t begin,
                                        std::int64_t end);
             LossSums multitask_kd_loss(const LossHead<double>& head, std::int64_t begin,
                                        std::int64_t end);)

}  // namespace cpu

namespace cuda {

// Bytes of scratch memory, aligned to 8, that the loss of `num_heads` heads needs on the device.
std::int64_t loss_workspace_bytes(std::int64_t num_heads);

// Launches on `stream` of the current device; returns a cudaError_t. The denominators inside the
// heads are not used: they are found on the device.
int multitask_kd_loss(const LossHead<float>* heads, std::int64_t num_heads,
                      const LossOutputs<float>& outputs, void* workspace, void* stream);
int multitask_kd_loss(const LossHead<double>* heads, std::int64_t num_heads,
                      const LossOutputs<double>& outputs, void* workspace, void* stream);

}  // namespace cuda
}  // namespace smoothdistill
