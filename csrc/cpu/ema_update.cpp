// CPU kernel of ema_update; the contract is in csrc/ema_update.h.
#include "ema_update.h"

#include "elementwise.h"

namespace smoothdistill::cpu::SD_LEVEL {
namespace {

template <class T>
void average(const EmaSpan& span, std::int64_t begin, std::int64_t end, double decay) {
  auto* teacher = static_cast<T*>(span.teacher);
  const auto* student = static_cast<const T*>(span.student);
  const T weight = static_cast<T>(1.0 - decay);
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) teacher[i] = lerp(teacher[i], student[i], weight);
}

// `kWiden` makes a float of a half-precision student's 16 bits.
template <float (*kWiden)(std::uint16_t)>
void average_half(const EmaSpan& span, std::int64_t begin, std::int64_t end, double decay) {
  auto* teacher = static_cast<float*>(span.teacher);
  const auto* student = static_cast<const std::uint16_t*>(span.student);
  const float weight = static_cast<float>(1.0 - decay);
  if (decay == 0.0) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) teacher[i] = kWiden(student[i]);
  } else {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      teacher[i] = lerp(teacher[i], kWiden(student[i]), weight);
    }
  }
}

void copy(const EmaSpan& span, std::int64_t begin, std::int64_t end, std::int64_t item_size) {
  __builtin_memcpy(static_cast<char*>(span.teacher) + begin * item_size,
                   static_cast<const char*>(span.student) + begin * item_size,
                   static_cast<std::size_t>((end - begin) * item_size));
}

}  // namespace

void ema_update(const EmaSpan& span, std::int64_t begin, std::int64_t end, double decay) {
  if (span.kind == EmaKind::kCopy) return copy(span, begin, end, 1);
  if (decay == 1.0) return;
  switch (span.kind) {
    case EmaKind::kFloat32:
      return decay == 0.0 ? copy(span, begin, end, 4) : average<float>(span, begin, end, decay);
    case EmaKind::kFloat64:
      return decay == 0.0 ? copy(span, begin, end, 8) : average<double>(span, begin, end, decay);
    case EmaKind::kBfloat16ToFloat32:
      return average_half<bfloat16_to_float>(span, begin, end, decay);
    case EmaKind::kFloat16ToFloat32:
      return average_half<float16_to_float>(span, begin, end, decay);
    case EmaKind::kCopy:
      return;
  }
}

}  // namespace smoothdistill::cpu::SD_LEVEL
