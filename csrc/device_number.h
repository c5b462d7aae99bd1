// A number that a CUDA kernel reads from the device's memory, so that a captured graph follows it.
#pragma once

namespace smoothdistill::cuda {

// It lies on the device as either type, or else (both null) is known here.
struct DeviceNumber {
  const float* float32;
  const double* float64;
  double value;

  bool is_known() const { return float32 == nullptr && float64 == nullptr; }
};

}  // namespace smoothdistill::cuda
