// conv_pool: 1-D convolution, bias, max-pool 2 and ReLU of a batch of windows in one pass.
//   y[o, p] = max(0, bias[o] + max_{s in {0, 1}} sum_{c, k} weight[o, c, k] x[c, 2 p + s + k])
// `choice` says where a gradient goes: 0 or 1 for the s of the larger (the first where both are
// equal), 2 where the ReLU closed (y <= 0). A NaN in the pair is chosen and passed on.
// Source: definition; max before ReLU is bit-equal to ReLU before max and does half of its work.
// Contract: float32, contiguous, no overlap; pooled = (time - kernel + 1) / 2, so that an odd last
// output of the convolution is dropped. Sums in float32 in an order that does not depend on the
// number of threads. On the CPU a batch lies in columns (see columns.h), and the backward pass
// visits only the outputs of the convolution that a gradient goes through, which are at most half
// of them, and fewer where the ReLU has closed: a dense product would do twice the work or more.
#pragma once

#include <cstdint>

#include "columns.h"
#include "simd.h"

namespace smoothdistill {

struct ConvPoolShape {
  std::int64_t batch;
  std::int64_t in_channels;
  std::int64_t time;
  std::int64_t out_channels;
  std::int64_t kernel;
  std::int64_t pooled;
};

namespace cpu {

// Scratch of the backward pass: `conv_pool_workspace_floats` of memory, cut by
// `conv_pool_workspace`. The strides leave room for vectors that run over an end.
struct ConvPoolWorkspace {
  float* rows;            // x as [windows, time, in_channels]
  float* grad_rows;       // the gradient in that order
  float* weights;         // [out_channels] of: one time step of zeros, [kernel, in_channels], zeros
  float* grad_weights;    // [out_channels, kernel, in_channels]
  float* turned;          // the gradient of y as [windows, pooled, out_channels]
  std::uint8_t* choices;  // and its choices
  std::int64_t row_stride;
  std::int64_t weight_stride;
  std::int64_t grad_weight_stride;
};

constexpr std::int64_t conv_pool_round_up(std::int64_t size) { return (size + 15) / 16 * 16; }

static inline ConvPoolWorkspace conv_pool_workspace(float* memory, const ConvPoolShape& s,
                                                    const BatchInColumns& c) {
  ConvPoolWorkspace w{};
  w.row_stride = conv_pool_round_up(s.time * s.in_channels) + 16;
  w.weight_stride = conv_pool_round_up((s.kernel + 2) * s.in_channels) + 16;
  w.grad_weight_stride = conv_pool_round_up(s.kernel * s.in_channels);
  w.rows = memory;
  w.grad_rows = w.rows + c.blocks * c.columns * w.row_stride;
  w.weights = w.grad_rows + c.blocks * c.columns * w.row_stride;
  w.grad_weights = w.weights + s.out_channels * w.weight_stride;
  w.turned = w.grad_weights + s.out_channels * w.grad_weight_stride;
  w.choices =
      reinterpret_cast<std::uint8_t*>(w.turned + c.blocks * c.columns * s.pooled * s.out_channels);
  return w;
}

constexpr std::int64_t conv_pool_workspace_floats(const ConvPoolShape& s, const BatchInColumns& c) {
  const std::int64_t row_stride = conv_pool_round_up(s.time * s.in_channels) + 16;
  const std::int64_t outputs = c.blocks * c.columns * s.pooled * s.out_channels;
  return 2 * c.blocks * c.columns * row_stride + outputs + (outputs + 3) / 4 +
         s.out_channels * (conv_pool_round_up((s.kernel + 2) * s.in_channels) + 16 +
                           conv_pool_round_up(s.kernel * s.in_channels));
}

#if defined(SMOOTHDISTILL_HAS_X86_LEVELS)
// x [blocks, (in_channels + 1) / 2, time, columns] and weight [out_channels, the same, kernel] as
// pairs of channels in bfloat16, with 0 beside the last of an odd number.
struct ConvPoolPairs {
  BfloatPair* x;
  BfloatPair* weight;
};

namespace avx512_bf16 {
void conv_pool_pair(const ConvPoolShape& shape, const BatchInColumns& layout, const float* x,
                    const float* weight, const ConvPoolPairs& pairs);
void conv_pool_forward(const ConvPoolShape& shape, const BatchInColumns& layout,
                       const BfloatPair* x, const BfloatPair* weight, const float* bias, float* y,
                       std::uint8_t* choice, std::int64_t block, std::int64_t begin,
                       std::int64_t end);
}  // namespace avx512_bf16
#endif

SD_PER_LEVEL(
    // Outputs [begin, end) of the time axis of one block. `choice` may be null.
    void conv_pool_forward(const ConvPoolShape& shape, const BatchInColumns& layout, const float* x,
                           const float* weight, const float* bias, float* y, std::uint8_t* choice,
                           std::int64_t block, std::int64_t begin, std::int64_t end);
    // The three parts of the backward pass. First: fills `rows` for a group of 16 windows.
    void conv_pool_gather(const ConvPoolShape& shape, const BatchInColumns& layout, const float* x,
                          const ConvPoolWorkspace& workspace, std::int64_t group);
    // Fills `weights`.
    void conv_pool_turn_weights(const ConvPoolShape& shape, const float* weight,
                                const ConvPoolWorkspace& workspace);
    // Then, for a range of output channels: gradient of weight and bias.
    void conv_pool_backward_weight(const ConvPoolShape& shape, const BatchInColumns& layout,
                                   const float* dy, const std::uint8_t* choice,
                                   const ConvPoolWorkspace& workspace, float* dw, float* db,
                                   std::int64_t begin, std::int64_t end);
    // And for a group of 16 windows: gradient of x, as it lies in columns.
    void conv_pool_backward_input(const ConvPoolShape& shape, const BatchInColumns& layout,
                                  const float* dy, const std::uint8_t* choice,
                                  const ConvPoolWorkspace& workspace, float* dx,
                                  std::int64_t group);)

}  // namespace cpu

namespace cuda {

// Both launch on `stream` of the current device and return a cudaError_t. Unlike on the CPU, a
// batch lies as PyTorch has it: signals [batch, in_channels, time], weight [out_channels,
// in_channels, kernel], the others [batch, out_channels, pooled]. `choice` may be null.
int conv_pool(const ConvPoolShape& shape, const float* signals, const float* weight,
              const float* bias, float* pooled, std::uint8_t* choice, void* stream);
// `grad_signals` may be null.
int conv_pool_backward(const ConvPoolShape& shape, const float* grad, const std::uint8_t* choice,
                       const float* signals, const float* weight, float* grad_signals,
                       float* grad_weight, float* grad_bias, void* stream);

}  // namespace cuda
}  // namespace smoothdistill
