// CPU kernel of multitask_kd_loss; the contract is in csrc/multitask_kd_loss.h.
//
// Heads of up to kMaxTileClasses classes go through tiles of 16 rows held class by class, so that
// every loop runs down the rows and vectorises whatever the number of classes is (12 and 3 here).
// Wider heads go row by row, with loops along the classes.
#include "multitask_kd_loss.h"

#include "elementwise.h"
#include "vector.h"

namespace smoothdistill::cpu::SD_LEVEL {
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kMaxTileClasses = 64;

template <class T>
using Four __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)))) = T;

template <class T>
SD_INLINE void transpose(const T* __restrict from, std::int64_t from_stride, T* __restrict to,
                         std::int64_t to_stride) {
  Four<T> row[4];
  SD_UNROLL for (int i = 0; i < 4; ++i) {
    row[i] = *reinterpret_cast<const Four<T>*>(from + i * from_stride);
  }
  const Four<T> low01 = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
  const Four<T> high01 = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
  const Four<T> low23 = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
  const Four<T> high23 = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  const Four<T> turned[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                             __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                             __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                             __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
  SD_UNROLL for (int i = 0; i < 4; ++i) {
    *reinterpret_cast<Four<T>*>(to + i * to_stride) = turned[i];
  }
}

// Rows [batch, classes] into a tile [classes][rows], full tiles by squares of 4 x 4; in a short one
// the last row is repeated.
template <class T>
void load_tile(T (*__restrict tile)[kTileRows], const T* __restrict rows, std::int64_t num_rows,
               std::int64_t num_classes) {
  std::int64_t c = 0;
  for (; num_rows == kTileRows && c + 4 <= num_classes; c += 4) {
    SD_UNROLL for (std::int64_t r = 0; r < kTileRows; r += 4) {
      transpose(rows + r * num_classes + c, num_classes, &tile[c][r], kTileRows);
    }
  }
  for (; c < num_classes; ++c) {
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      tile[c][r] = rows[(r < num_rows ? r : num_rows - 1) * num_classes + c];
    }
  }
}

template <class T>
void store_tile(const T (*__restrict tile)[kTileRows], T* __restrict rows, std::int64_t num_rows,
                std::int64_t num_classes) {
  std::int64_t c = 0;
  for (; num_rows == kTileRows && c + 4 <= num_classes; c += 4) {
    SD_UNROLL for (std::int64_t r = 0; r < kTileRows; r += 4) {
      transpose(&tile[c][r], kTileRows, rows + r * num_classes + c, num_classes);
    }
  }
  for (; c < num_classes; ++c) {
    for (std::int64_t r = 0; r < num_rows; ++r) rows[r * num_classes + c] = tile[c][r];
  }
}

// Up to 16 rows at once. Absent rows repeat the last one and are not stored.
template <class T>
void tile(const LossHead<T>& head, const GradientFactors<T>& f, std::int64_t first,
          std::int64_t num_rows, LossSums& sums) {
  alignas(64) T z[kMaxTileClasses][kTileRows];        // student, exp(z - max), its gradient
  alignas(64) T soft[kMaxTileClasses][kTileRows];     // exp((z - max) / T)
  alignas(64) T teacher[kMaxTileClasses][kTileRows];  // teacher, later its exp
  const std::int64_t num_classes = head.num_classes;
  const bool distills = head.teacher != nullptr;
  const bool smooths = head.label_smoothing != 0.0;

  std::int64_t target[kTileRows];
  T label_weight[kTileRows], valid[kTileRows];
  for (std::int64_t r = 0; r < kTileRows; ++r) {
    const std::int64_t row = first + (r < num_rows ? r : num_rows - 1);
    const bool used = r < num_rows && head.targets[row] != head.ignore_index;
    target[r] = used ? head.targets[row] : 0;
    valid[r] = used ? T(1) : T(0);
    label_weight[r] = !used ? T(0) : (head.class_weights ? head.class_weights[target[r]] : T(1));
  }
  load_tile(z, head.student + first * num_classes, num_rows, num_classes);
  if (distills) load_tile(teacher, head.teacher + first * num_classes, num_rows, num_classes);

  alignas(64) T z_max[kTileRows], z_target[kTileRows], smooth_sum[kTileRows];
  T best[kTileRows];  // a class
  for (std::int64_t r = 0; r < kTileRows; ++r) {
    z_max[r] = z[0][r];
    best[r] = T(0);
    z_target[r] = z[target[r]][r];
    smooth_sum[r] = T(0);
  }
  for (std::int64_t c = 1; c < num_classes; ++c) {
#pragma omp simd
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      // Of a choice between two numbers GCC makes a branch, and the loop is scalar on ARM.
      const T is_larger = static_cast<T>(z[c][r] > z_max[r]);
      best[r] += is_larger * (static_cast<T>(c) - best[r]);
      z_max[r] = z[c][r] > z_max[r] ? z[c][r] : z_max[r];
    }
  }
  if (smooths) {
    for (std::int64_t c = 0; c < num_classes; ++c) {
      const T w = head.class_weights ? head.class_weights[c] : T(1);
#pragma omp simd
      for (std::int64_t r = 0; r < kTileRows; ++r) smooth_sum[r] += w * (z[c][r] - z_max[r]);
    }
  }

  alignas(64) T hard_sum[kTileRows] = {}, soft_sum[kTileRows] = {}, teacher_sum[kTileRows] = {};
  alignas(64) T cross[kTileRows] = {};
  if (distills) {
    alignas(64) T teacher_max[kTileRows];
    for (std::int64_t r = 0; r < kTileRows; ++r) teacher_max[r] = teacher[0][r];
    for (std::int64_t c = 1; c < num_classes; ++c) {
#pragma omp simd
      for (std::int64_t r = 0; r < kTileRows; ++r) {
        teacher_max[r] = teacher[c][r] > teacher_max[r] ? teacher[c][r] : teacher_max[r];
      }
    }
    for (std::int64_t c = 0; c < num_classes; ++c) {
#pragma omp simd
      for (std::int64_t r = 0; r < kTileRows; ++r) {
        const T a = (z[c][r] - z_max[r]) * f.inverse_temperature;
        const T b = (teacher[c][r] - teacher_max[r]) * f.inverse_temperature;
        const T e = exponential_of_negative(b);
        const T s = exponential_of_negative(a);
        // A class that the teacher rules out (probability 0) adds nothing, whatever its logit.
        cross[r] += e == T(0) ? T(0) : e * (b - a);
        teacher_sum[r] += e;
        soft_sum[r] += s;
        teacher[c][r] = e;
        soft[c][r] = s;
      }
    }
  }
  for (std::int64_t c = 0; c < num_classes; ++c) {
#pragma omp simd
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      const T e = exponential_of_negative(z[c][r] - z_max[r]);
      hard_sum[r] += e;
      z[c][r] = e;
    }
  }

  alignas(64) T hard_log[kTileRows], divergence[kTileRows] = {};
  alignas(64) T hard_scale[kTileRows], soft_scale[kTileRows] = {}, teacher_scale[kTileRows] = {};
  const T smoothing = smooths ? f.other_share * f.class_weight_sum : T(0);
#pragma omp simd
  for (std::int64_t r = 0; r < kTileRows; ++r) {
    hard_log[r] = logarithm(hard_sum[r]);
    hard_scale[r] =
        f.hard * (f.target_share * label_weight[r] + smoothing) * valid[r] / hard_sum[r];
  }
  if (distills) {
#pragma omp simd
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      divergence[r] =
          cross[r] / teacher_sum[r] - (logarithm(teacher_sum[r]) - logarithm(soft_sum[r]));
      soft_scale[r] = f.soft * valid[r] / soft_sum[r];
      teacher_scale[r] = f.soft * valid[r] / teacher_sum[r];
    }
  }

  for (std::int64_t c = 0; c < num_classes; ++c) {
    const T share = f.hard * f.other_share * (head.class_weights ? head.class_weights[c] : T(1));
#pragma omp simd
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      T g = z[c][r] * hard_scale[r] - share * valid[r];
      if (distills) g += soft[c][r] * soft_scale[r] - teacher[c][r] * teacher_scale[r];
      z[c][r] = valid[r] == T(0) ? T(0) : g;  // also where the logits hold a NaN
    }
  }

  store_tile(z, head.gradient + first * num_classes, num_rows, num_classes);
  for (std::int64_t r = 0; r < num_rows; ++r) {
    if (valid[r] == T(0)) continue;
    head.gradient[(first + r) * num_classes + target[r]] -=
        f.hard * f.target_share * label_weight[r];
    const T target_term = hard_log[r] - (z_target[r] - z_max[r]);
    sums.cross_entropy += static_cast<double>(f.target_share * label_weight[r] * target_term);
    if (smooths) {
      sums.cross_entropy +=
          static_cast<double>(f.other_share * (f.class_weight_sum * hard_log[r] - smooth_sum[r]));
    }
    sums.divergence += static_cast<double>(divergence[r]);
    sums.num_correct += best[r] == static_cast<T>(target[r]) && hard_sum[r] == hard_sum[r];
  }
}

template <class T>
T largest(const T* values, std::int64_t size) {
  T result = values[0];
#pragma omp simd reduction(max : result)
  for (std::int64_t c = 0; c < size; ++c) result = values[c] > result ? values[c] : result;
  return result;
}

template <class T>
void wide_row(const LossHead<T>& head, const GradientFactors<T>& f, std::int64_t row,
              LossSums& sums) {
  const std::int64_t num_classes = head.num_classes, target = head.targets[row];
  const T* z = head.student + row * num_classes;
  const T* teacher = head.teacher ? head.teacher + row * num_classes : nullptr;
  T* gradient = head.gradient + row * num_classes;
  if (target == head.ignore_index) {
    for (std::int64_t c = 0; c < num_classes; ++c) gradient[c] = T(0);
    return;
  }
  const T label_weight = head.class_weights ? head.class_weights[target] : T(1);
  const T z_max = largest(z, num_classes);

  T hard_sum = T(0);
#pragma omp simd reduction(+ : hard_sum)
  for (std::int64_t c = 0; c < num_classes; ++c) hard_sum += exponential_of_negative(z[c] - z_max);
  const T hard_log = logarithm(hard_sum);
  T hard_scale = f.target_share * label_weight;

  if (head.label_smoothing != 0.0) {
    T smooth_sum = T(0);
    const T* w = head.class_weights;
#pragma omp simd reduction(+ : smooth_sum)
    for (std::int64_t c = 0; c < num_classes; ++c) smooth_sum += (w ? w[c] : T(1)) * (z[c] - z_max);
    hard_scale += f.other_share * f.class_weight_sum;
    sums.cross_entropy +=
        static_cast<double>(f.other_share * (f.class_weight_sum * hard_log - smooth_sum));
  }
  hard_scale *= f.hard / hard_sum;
  const T share = f.hard * f.other_share;

  if (teacher != nullptr) {
    const T teacher_max = largest(teacher, num_classes);
    T teacher_sum = T(0), soft_sum = T(0), cross = T(0);
#pragma omp simd reduction(+ : teacher_sum, soft_sum, cross)
    for (std::int64_t c = 0; c < num_classes; ++c) {
      const T a = (z[c] - z_max) * f.inverse_temperature;
      const T b = (teacher[c] - teacher_max) * f.inverse_temperature;
      const T e = exponential_of_negative(b);
      teacher_sum += e;
      soft_sum += exponential_of_negative(a);
      cross += e == T(0) ? T(0) : e * (b - a);
    }
    sums.divergence +=
        static_cast<double>(cross / teacher_sum - (logarithm(teacher_sum) - logarithm(soft_sum)));
    const T soft_scale = f.soft / soft_sum, teacher_scale = f.soft / teacher_sum;
    // The exponentials are computed again: cheaper than a scratch row that leaves the cache.
#pragma omp simd
    for (std::int64_t c = 0; c < num_classes; ++c) {
      const T d = z[c] - z_max;
      gradient[c] = exponential_of_negative(d) * hard_scale +
                    (exponential_of_negative(d * f.inverse_temperature) * soft_scale -
                     exponential_of_negative((teacher[c] - teacher_max) * f.inverse_temperature) *
                         teacher_scale);
    }
  } else {
#pragma omp simd
    for (std::int64_t c = 0; c < num_classes; ++c)
      gradient[c] = exponential_of_negative(z[c] - z_max) * hard_scale;
  }
  if (head.label_smoothing != 0.0) {
    const T* w = head.class_weights;
#pragma omp simd
    for (std::int64_t c = 0; c < num_classes; ++c) gradient[c] -= share * (w ? w[c] : T(1));
  }
  gradient[target] -= f.hard * f.target_share * label_weight;
  sums.cross_entropy +=
      static_cast<double>(f.target_share * label_weight * (hard_log - (z[target] - z_max)));

  std::int64_t best = num_classes;
#pragma omp simd reduction(min : best)
  for (std::int64_t c = 0; c < num_classes; ++c) {
    const std::int64_t here = z[c] == z_max ? c : num_classes;
    best = here < best ? here : best;
  }
  sums.num_correct += best == target && hard_sum == hard_sum;
}

template <class T>
LossSums run(const LossHead<T>& head, std::int64_t begin, std::int64_t end) {
  const GradientFactors<T> factors = gradient_factors(head);
  LossSums sums{0.0, 0.0, 0};
  if (head.num_classes <= kMaxTileClasses) {
    for (std::int64_t row = begin; row < end; row += kTileRows) {
      const std::int64_t left = end - row;
      tile(head, factors, row, left < kTileRows ? left : kTileRows, sums);
    }
  } else {
    for (std::int64_t row = begin; row < end; ++row) wide_row(head, factors, row, sums);
  }
  return sums;
}

}  // namespace

LossSums multitask_kd_loss(const LossHead<float>& head, std::int64_t begin, std::int64_t end) {
  return run(head, begin, end);
}

LossSums multitask_kd_loss(const LossHead<double>& head, std::int64_t begin, std::int64_t end) {
  return run(head, begin, end);
}

}  // namespace smoothdistill::cpu::SD_LEVEL
