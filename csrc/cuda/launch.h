// The one way to launch a kernel, so that every launch is checked, and so that tests can run the
// kernels where there is no GPU (tests/cuda_on_cpu).
#pragma once

#include <cuda_runtime.h>

namespace smoothdistill::cuda {

// Launches on `stream` of the current device; returns a cudaError_t.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, int threads, void* stream,
           const Arguments&... arguments) {
#if defined(__CUDACC__)
  kernel<<<grid, static_cast<unsigned>(threads), 0, static_cast<cudaStream_t>(stream)>>>(
      arguments...);
  return cudaGetLastError();
#else
  static_cast<void>(stream);
  return emulation::run(grid, threads, [&] { kernel(arguments...); });
#endif
}

}  // namespace smoothdistill::cuda
