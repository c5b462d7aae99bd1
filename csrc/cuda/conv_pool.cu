// CUDA kernels of conv_pool; the contract is in csrc/conv_pool.h. Forward: a thread computes
// kChannels filters at one place of the pooled output, with the filters' weights in shared memory.
// Backward: a thread for each sample's gradient, a block for each pair of channels of the weight
// and for each filter of the bias. No atomics: each sum has one order, which depends on the shapes
// alone. All sums are in float32.
#include "conv_pool.h"

#include "launch.h"
#include "reduce.h"

namespace smoothdistill::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 1 << 20;  // of a launch; a block takes further tiles in turn
constexpr int kChannels = 8;                  // filters that a thread computes
constexpr int kTileTaps = 512;                // of each filter in shared memory: 16 KB together
constexpr int kWeightTaps = 16;               // gradients of a filter that a thread sums at once
constexpr std::uint8_t kNeither = 2;          // of the pair passed the ReLU

__host__ __device__ constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

unsigned num_blocks_for(std::int64_t num_tiles) {
  return static_cast<unsigned>(num_tiles < kMaxBlocks ? num_tiles : kMaxBlocks);
}

// One pair of the convolution's outputs.
struct Pair {
  float first;
  float second;
};

// A NaN is the larger, as in PyTorch's pooling and ReLU.
__device__ __forceinline__ void write_pooled(const Pair& pair, float* pooled,
                                             std::uint8_t* choice) {
  const bool is_second = pair.second > pair.first || pair.second != pair.second;
  const float largest = is_second ? pair.second : pair.first;
  const bool passes = !(largest <= 0.0F);
  *pooled = passes ? largest : 0.0F;
  if (choice != nullptr) *choice = passes ? static_cast<std::uint8_t>(is_second) : kNeither;
}

// A tile: kChannels filters at kThreads places among batch x pooled.
__global__ void __launch_bounds__(kThreads)
    pool_tiles(const __grid_constant__ ConvPoolShape shape, const float* __restrict__ signals,
               const float* __restrict__ weight, const float* __restrict__ bias,
               float* __restrict__ pooled, std::uint8_t* __restrict__ choice) {
  __shared__ float tile_weight[kTileTaps][kChannels];
  const std::int64_t num_places = shape.batch * shape.pooled;
  const std::int64_t num_taps = shape.in_channels * shape.kernel;
  const std::int64_t num_groups = ceil_div(shape.out_channels, kChannels);
  const std::int64_t num_tiles = ceil_div(num_places, kThreads) * num_groups;
  const int thread = static_cast<int>(threadIdx.x);

  for (std::int64_t tile = blockIdx.x; tile < num_tiles; tile += gridDim.x) {
    const std::int64_t first_channel = tile % num_groups * kChannels;
    const std::int64_t place = tile / num_groups * kThreads + thread;
    const bool is_inside = place < num_places;
    // A thread past the end computes the last place again: all threads must meet the barriers.
    const std::int64_t used = is_inside ? place : num_places - 1;
    const std::int64_t row = used / shape.pooled, step = used % shape.pooled;

    Pair pairs[kChannels];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const std::int64_t channel = first_channel + c;
      pairs[c].first = channel < shape.out_channels ? bias[channel] : 0.0F;
      pairs[c].second = pairs[c].first;
    }
    // The taps of a filter are in_channels runs of `kernel`; a tile of them may begin within one.
    const float* samples = signals + row * shape.in_channels * shape.time + 2 * step;
    std::int64_t tap = 0;
    for (std::int64_t begin = 0; begin < num_taps; begin += kTileTaps) {
      const int taps =
          static_cast<int>(num_taps - begin < kTileTaps ? num_taps - begin : kTileTaps);
      __syncthreads();  // the tile before is still being read
      for (int i = thread; i < taps * kChannels; i += kThreads) {
        const std::int64_t channel = first_channel + i / taps;
        tile_weight[i % taps][i / taps] =
            channel < shape.out_channels ? weight[channel * num_taps + begin + i % taps] : 0.0F;
      }
      __syncthreads();
      for (int t = 0; t < taps; ++t) {
        const float early = samples[tap], late = samples[tap + 1];
#pragma unroll
        for (int c = 0; c < kChannels; ++c) {
          pairs[c].first += early * tile_weight[t][c];
          pairs[c].second += late * tile_weight[t][c];
        }
        if (++tap == shape.kernel) {
          tap = 0;
          samples += shape.time;
        }
      }
    }
    if (!is_inside) continue;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const std::int64_t channel = first_channel + c;
      if (channel >= shape.out_channels) break;
      const std::int64_t at = (row * shape.out_channels + channel) * shape.pooled + step;
      write_pooled(pairs[c], pooled + at, choice == nullptr ? nullptr : choice + at);
    }
  }
}

// A thread: the gradient of one sample, over the filters and then over the pooled steps.
__global__ void __launch_bounds__(kThreads)
    signal_gradients(const __grid_constant__ ConvPoolShape shape, const float* __restrict__ grad,
                     const std::uint8_t* __restrict__ choice, const float* __restrict__ weight,
                     float* __restrict__ grad_signals) {
  const std::int64_t num_samples = shape.batch * shape.in_channels * shape.time;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; at < num_samples;
       at += stride) {
    const std::int64_t sample = at % shape.time;
    const std::int64_t in_channel = at / shape.time % shape.in_channels;
    const std::int64_t row = at / shape.time / shape.in_channels;
    // The steps whose pair of windows, 2 * step + {0, 1} + [0, kernel), may hold the sample.
    const std::int64_t before = sample - shape.kernel;
    const std::int64_t first_step = before > 0 ? before / 2 : 0;
    const std::int64_t end_step = sample / 2 < shape.pooled ? sample / 2 + 1 : shape.pooled;
    float sum = 0.0F;
    for (std::int64_t channel = 0; channel < shape.out_channels; ++channel) {
      const std::int64_t line = (row * shape.out_channels + channel) * shape.pooled;
      const float* filter = weight + (channel * shape.in_channels + in_channel) * shape.kernel;
      for (std::int64_t step = first_step; step < end_step; ++step) {
        const std::uint8_t place = choice[line + step];
        const std::int64_t tap = sample - 2 * step - place;
        if (place < kNeither && tap >= 0 && tap < shape.kernel) {
          sum += grad[line + step] * filter[tap];
        }
      }
    }
    grad_signals[at] = sum;
  }
}

// The places among batch x pooled of one thread of a block: thread, thread + kThreads, ..., as row
// and step, without a division for each.
struct PlaceWalk {
  std::int64_t row, step;            // of the present place
  std::int64_t row_jump, step_jump;  // kThreads places
  std::int64_t pooled;

  __device__ PlaceWalk(std::int64_t num_pooled, std::int64_t thread)
      : row(thread / num_pooled),
        step(thread % num_pooled),
        row_jump(kThreads / num_pooled),
        step_jump(kThreads % num_pooled),
        pooled(num_pooled) {}

  __device__ __forceinline__ void next() {
    row += row_jump;
    step += step_jump;
    if (step >= pooled) {
      step -= pooled;
      ++row;
    }
  }
};

// A block: the gradient of the weight from one signal channel to one filter.
__global__ void __launch_bounds__(kThreads)
    weight_gradients(const __grid_constant__ ConvPoolShape shape, const float* __restrict__ grad,
                     const std::uint8_t* __restrict__ choice, const float* __restrict__ signals,
                     float* __restrict__ grad_weight) {
  const std::int64_t num_pairs = shape.out_channels * shape.in_channels;
  for (std::int64_t pair = blockIdx.x; pair < num_pairs; pair += gridDim.x) {
    const std::int64_t channel = pair / shape.in_channels, in_channel = pair % shape.in_channels;
    for (std::int64_t begin = 0; begin < shape.kernel; begin += kWeightTaps) {
      const int taps =
          static_cast<int>(shape.kernel - begin < kWeightTaps ? shape.kernel - begin : kWeightTaps);
      float sums[kWeightTaps] = {};
      for (PlaceWalk walk(shape.pooled, threadIdx.x); walk.row < shape.batch; walk.next()) {
        const std::int64_t at =
            (walk.row * shape.out_channels + channel) * shape.pooled + walk.step;
        const std::uint8_t place = choice[at];
        if (place >= kNeither) continue;
        const float g = grad[at];
        const float* samples = signals + (walk.row * shape.in_channels + in_channel) * shape.time +
                               2 * walk.step + place + begin;
#pragma unroll
        for (int t = 0; t < kWeightTaps; ++t) {
          if (t < taps) sums[t] += g * samples[t];
        }
      }
#pragma unroll
      for (int t = 0; t < kWeightTaps; ++t) {
        if (t >= taps) break;  // of the same length in every thread
        const float sum = block_sum<kThreads>(sums[t]);
        if (threadIdx.x == 0) grad_weight[pair * shape.kernel + begin + t] = sum;
      }
    }
  }
}

// A block: the gradient of one filter's bias.
__global__ void __launch_bounds__(kThreads)
    bias_gradients(const __grid_constant__ ConvPoolShape shape, const float* __restrict__ grad,
                   const std::uint8_t* __restrict__ choice, float* __restrict__ grad_bias) {
  for (std::int64_t channel = blockIdx.x; channel < shape.out_channels; channel += gridDim.x) {
    float sum = 0.0F;
    for (PlaceWalk walk(shape.pooled, threadIdx.x); walk.row < shape.batch; walk.next()) {
      const std::int64_t at = (walk.row * shape.out_channels + channel) * shape.pooled + walk.step;
      if (choice[at] < kNeither) sum += grad[at];
    }
    sum = block_sum<kThreads>(sum);
    if (threadIdx.x == 0) grad_bias[channel] = sum;
  }
}

}  // namespace

int conv_pool(const ConvPoolShape& shape, const float* signals, const float* weight,
              const float* bias, float* pooled, std::uint8_t* choice, void* stream) {
  const std::int64_t num_tiles =
      ceil_div(shape.batch * shape.pooled, kThreads) * ceil_div(shape.out_channels, kChannels);
  if (num_tiles == 0) return cudaSuccess;
  return launch(pool_tiles, num_blocks_for(num_tiles), kThreads, stream, shape, signals, weight,
                bias, pooled, choice);
}

int conv_pool_backward(const ConvPoolShape& shape, const float* grad, const std::uint8_t* choice,
                       const float* signals, const float* weight, float* grad_signals,
                       float* grad_weight, float* grad_bias, void* stream) {
  const std::int64_t num_samples = shape.batch * shape.in_channels * shape.time;
  if (grad_signals != nullptr && num_samples > 0) {
    const int status = launch(signal_gradients, num_blocks_for(ceil_div(num_samples, kThreads)),
                              kThreads, stream, shape, grad, choice, weight, grad_signals);
    if (status != cudaSuccess) return status;
  }
  const std::int64_t num_pairs = shape.out_channels * shape.in_channels;
  if (num_pairs > 0) {
    const int status = launch(weight_gradients, num_blocks_for(num_pairs), kThreads, stream, shape,
                              grad, choice, signals, grad_weight);
    if (status != cudaSuccess) return status;
  }
  if (shape.out_channels == 0) return cudaSuccess;
  return launch(bias_gradients, num_blocks_for(shape.out_channels), kThreads, stream, shape, grad,
                choice, grad_bias);
}

}  // namespace smoothdistill::cuda
