// multitask_kd_loss: for one task, cross-entropy plus distillation and the gradient of
// task_weight * (CE + distill_weight * KD) with respect to the student's logits, in one pass.
//   CE = sum_b w[y_b] CE(z_b, y_b) / sum_b w[y_b]   (label smoothing s: (1-s) on the target's term,
//        s / classes on sum_c w[c] * -log softmax(z_b)[c], over the same denominator)
//   KD = T^2 / num_valid * sum_b KL(softmax(teacher_b / T) || softmax(z_b / T))
// over the rows whose target is not `ignore_index`; other rows get a zero gradient.
// Source: Hinton, Vinyals and Dean 2015, section 2; the published code of Smooth-Distill.
// Contract: contiguous rows of `num_classes` logits, targets int64; logits are left intact. The
// sums are exact to the rounding of one row, then accumulated in double. No row: zeros, no NaN.
// Floor: reads both logits, writes the gradient: 12 bytes a logit in float32; 3 exponentials.
#pragma once

#include <cstdint>

#include "simd.h"

namespace smoothdistill {

template <class T>
struct LossHead {
  const T* student;            // [rows, num_classes]
  const T* teacher;            // same, or null: no distillation
  const std::int64_t* targets; // [rows]
  const T* class_weights;      // [num_classes], or null: all 1
  T* gradient;                 // [rows, num_classes]
  std::int64_t num_rows;
  std::int64_t num_classes;
  std::int64_t ignore_index;
  double task_weight;
  double distill_weight;
  double temperature;
  double label_smoothing;
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

namespace cpu {

// Rows [begin, end) of one head: writes their gradient and returns their sums.
SD_PER_LEVEL(
  LossSums multitask_kd_loss(const LossHead<float>& head, std::int64_t begin, std::int64_t end);
  LossSums multitask_kd_loss(const LossHead<double>& head, std::int64_t begin, std::int64_t end);
)

}  // namespace cpu
}  // namespace smoothdistill
