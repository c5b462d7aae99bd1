// CPU kernel of ema_update; the contract is in csrc/ema_update.h.
#include "ema_update.h"

#include "math.h"

namespace smoothdistill::cpu::SD_LEVEL {
namespace {

template <class T>
void average(T* teacher, const T* student, std::int64_t size, T weight) {
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) teacher[i] = lerp(teacher[i], student[i], weight);
}

// bfloat16 is the upper half of a float32.
void average(float* teacher, const std::uint16_t* student, std::int64_t size, float weight) {
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) {
    const float value =
        __builtin_bit_cast(float, static_cast<std::uint32_t>(student[i]) << 16);
    teacher[i] = lerp(teacher[i], value, weight);
  }
}

template <class T, class S>
void update(const EmaSpan& span, std::int64_t begin, std::int64_t end, double decay) {
  average(static_cast<T*>(span.teacher) + begin, static_cast<const S*>(span.student) + begin,
          end - begin, static_cast<T>(1.0 - decay));
}

void copy(const EmaSpan& span, std::int64_t begin, std::int64_t end, std::int64_t item_size) {
  __builtin_memcpy(static_cast<char*>(span.teacher) + begin * item_size,
                   static_cast<const char*>(span.student) + begin * item_size,
                   static_cast<std::size_t>((end - begin) * item_size));
}

void widen(const EmaSpan& span, std::int64_t begin, std::int64_t end) {
  auto* teacher = static_cast<std::uint32_t*>(span.teacher);
  const auto* student = static_cast<const std::uint16_t*>(span.student);
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    teacher[i] = static_cast<std::uint32_t>(student[i]) << 16;
  }
}

}  // namespace

void ema_update(const EmaSpan& span, std::int64_t begin, std::int64_t end, double decay) {
  if (span.kind == EmaKind::kCopy) return copy(span, begin, end, 1);
  if (decay == 1.0) return;
  switch (span.kind) {
    case EmaKind::kFloat32:
      return decay == 0.0 ? copy(span, begin, end, 4)
                          : update<float, float>(span, begin, end, decay);
    case EmaKind::kFloat64:
      return decay == 0.0 ? copy(span, begin, end, 8)
                          : update<double, double>(span, begin, end, decay);
    case EmaKind::kBfloat16ToFloat32:
      return decay == 0.0 ? widen(span, begin, end)
                          : update<float, std::uint16_t>(span, begin, end, decay);
    case EmaKind::kCopy:
      return;
  }
}

}  // namespace smoothdistill::cpu::SD_LEVEL
