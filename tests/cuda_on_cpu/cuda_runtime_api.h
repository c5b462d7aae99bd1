// The part of CUDA's runtime that csrc/cuda_module.cpp uses: one device, which is the CPU.
#pragma once

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719,
};
using cudaStream_t = void*;

inline const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorLaunchFailure ? "threads of a block wait for different things"
                                          : "another error";
}
inline cudaError_t cudaGetDevice(int* device) { return *device = -1, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
