// ema_update: teacher <- decay * teacher + (1 - decay) * student, element-wise, in place.
// Source: Tarvainen and Valpola 2017 (mean teacher), equation 1; `decay` is their alpha.
// Contract: contiguous tensors of equal lengths that do not overlap. float32 with a float32,
// bfloat16 or float16 student, float64 with float64; other types are copied bytewise. decay == 1
// writes nothing; decay == 0 copies exactly; student == teacher leaves the teacher bitwise
// unchanged (but -0.0 may become +0.0, as in torch.lerp). Floor: 12 bytes an element in float32
// (two reads, one write).
#pragma once

#include <cstdint>

#include "device_number.h"
#include "simd.h"

namespace smoothdistill {

enum class EmaKind : std::int32_t {
  kFloat32,
  kFloat64,
  kBfloat16ToFloat32,
  kFloat16ToFloat32,
  kCopy
};

struct EmaSpan {
  void* teacher;
  const void* student;
  std::int64_t length;  // elements; bytes for kCopy
  EmaKind kind;
};

namespace cpu {

SD_PER_LEVEL(void ema_update(const EmaSpan& span, std::int64_t begin, std::int64_t end,
                             double decay);)

}  // namespace cpu

namespace cuda {

// Launches on `stream` of the current device; returns a cudaError_t.
int ema_update(const EmaSpan* spans, std::int64_t num_spans, const DeviceNumber& decay,
               void* stream);

}  // namespace cuda
}  // namespace smoothdistill
