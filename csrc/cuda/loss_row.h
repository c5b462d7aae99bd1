// One row of multitask_kd_loss: its softmaxes, what it adds to the sums, and its gradient.
#pragma once

#include "elementwise.h"
#include "multitask_kd_loss.h"
#include "reduce.h"

namespace smoothdistill::cuda {

template <class T>
__device__ __forceinline__ bool is_in_range(const LossHead<T>& head, std::int64_t target) {
  return target >= 0 && target < head.num_classes;
}

// The softmaxes of a row, by their maxima and sums; two of them at the temperature.
template <class T>
struct RowSoftmaxes {
  T z_max, hard_sum;
  T soft_sum;
  T teacher_max, teacher_sum;
};

// A group of lanes: the softmaxes of one row, and what it adds to `sums`, alike in every lane. The
// lane takes the classes lane, lane + kLanes, ... A group past the last row (`is_row` false) goes
// along with row 0, since all lanes of a warp exchange, and adds nothing.
template <int kLanes, class T>
__device__ __forceinline__ RowSoftmaxes<T> row_softmaxes(const LossHead<T>& head,
                                                         const GradientFactors<T>& f,
                                                         std::int64_t row, bool is_row, int lane,
                                                         LossSums& sums) {
  const std::int64_t num_classes = head.num_classes, given = head.targets[row];
  const bool is_valid = given != head.ignore_index && is_in_range(head, given);
  const std::int64_t target = is_valid ? given : 0;
  const T* z = head.student + row * num_classes;
  const bool smooths = head.label_smoothing != 0.0;
  const T label_weight = head.class_weights ? head.class_weights[target] : T(1);
  RowSoftmaxes<T> of{};
  LossSums own{0.0, 0.0, 0};

  // Every lane begins with class 0, as the CPU does: a NaN there stays, elsewhere it is passed by.
  // Either way the sum of the exponentials is NaN.
  T z_max = z[0];
  std::int64_t best = 0;
  for (std::int64_t c = lane; c < num_classes; c += kLanes) {
    if (z[c] > z_max) {
      z_max = z[c];
      best = c;
    }
  }
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, z_max, offset);
    const std::int64_t other_best = __shfl_xor_sync(kAllLanes, best, offset);
    if (other > z_max || (other == z_max && other_best < best)) {
      z_max = other;
      best = other_best;
    }
  }
  of.z_max = z_max;

  T hard_sum = T(0), smooth_sum = T(0);
  for (std::int64_t c = lane; c < num_classes; c += kLanes) {
    const T d = z[c] - z_max;
    hard_sum += exponential_of_negative(d);
    if (smooths) smooth_sum += (head.class_weights ? head.class_weights[c] : T(1)) * d;
  }
  of.hard_sum = hard_sum = group_sum<kLanes>(hard_sum);
  const T hard_log = logarithm(hard_sum);
  own.cross_entropy =
      static_cast<double>(f.target_share * label_weight * (hard_log - (z[target] - z_max)));
  if (smooths) {
    smooth_sum = group_sum<kLanes>(smooth_sum);
    own.cross_entropy +=
        static_cast<double>(f.other_share * (f.class_weight_sum * hard_log - smooth_sum));
  }
  own.num_correct = best == target && hard_sum == hard_sum;

  if (head.teacher != nullptr) {
    const T* teacher = head.teacher + row * num_classes;
    T teacher_max = teacher[0];
    for (std::int64_t c = lane; c < num_classes; c += kLanes) {
      teacher_max = teacher[c] > teacher_max ? teacher[c] : teacher_max;
    }
    of.teacher_max = teacher_max = group_max<kLanes>(teacher_max);
    T teacher_sum = T(0), soft_sum = T(0), cross = T(0);
    for (std::int64_t c = lane; c < num_classes; c += kLanes) {
      const T a = (z[c] - z_max) * f.inverse_temperature;
      const T b = (teacher[c] - teacher_max) * f.inverse_temperature;
      const T e = exponential_of_negative(b);
      teacher_sum += e;
      soft_sum += exponential_of_negative(a);
      // A class that the teacher rules out (probability 0) adds nothing, whatever its logit.
      cross += e == T(0) ? T(0) : e * (b - a);
    }
    of.teacher_sum = teacher_sum = group_sum<kLanes>(teacher_sum);
    of.soft_sum = soft_sum = group_sum<kLanes>(soft_sum);
    cross = group_sum<kLanes>(cross);
    own.divergence =
        static_cast<double>(cross / teacher_sum - (logarithm(teacher_sum) - logarithm(soft_sum)));
  }
  if (is_row && is_valid) {
    sums.cross_entropy += own.cross_entropy;
    sums.divergence += own.divergence;
    sums.num_correct += own.num_correct;
  }
  return of;
}

// A group of lanes: the gradient of one row. The exponentials are computed again: cheaper than a
// place to keep any number of them.
template <int kLanes, class T>
__device__ __forceinline__ void write_gradient(const LossHead<T>& head, const GradientFactors<T>& f,
                                               std::int64_t row, int lane,
                                               const RowSoftmaxes<T>& of) {
  const std::int64_t num_classes = head.num_classes, given = head.targets[row];
  const bool is_valid = given != head.ignore_index && is_in_range(head, given);
  const std::int64_t target = is_valid ? given : 0;
  const T instead = given == head.ignore_index ? T(0) : static_cast<T>(nan(""));
  const bool smooths = head.label_smoothing != 0.0;
  const T label_weight = head.class_weights ? head.class_weights[target] : T(1);
  const T* z = head.student + row * num_classes;
  const T* teacher = head.teacher == nullptr ? nullptr : head.teacher + row * num_classes;
  T* gradient = head.gradient + row * num_classes;

  T hard_scale = f.target_share * label_weight;
  if (smooths) hard_scale += f.other_share * f.class_weight_sum;
  hard_scale *= f.hard / of.hard_sum;
  const T soft_scale = teacher == nullptr ? T(0) : f.soft / of.soft_sum;
  const T teacher_scale = teacher == nullptr ? T(0) : f.soft / of.teacher_sum;
  for (std::int64_t c = lane; c < num_classes; c += kLanes) {
    const T d = z[c] - of.z_max;
    T g = exponential_of_negative(d) * hard_scale;
    if (teacher != nullptr) {
      g += exponential_of_negative(d * f.inverse_temperature) * soft_scale -
           exponential_of_negative((teacher[c] - of.teacher_max) * f.inverse_temperature) *
               teacher_scale;
    }
    if (smooths) g -= f.hard * f.other_share * (head.class_weights ? head.class_weights[c] : T(1));
    if (c == target) g -= f.hard * f.target_share * label_weight;
    gradient[c] = is_valid ? g : instead;
  }
}

}  // namespace smoothdistill::cuda
