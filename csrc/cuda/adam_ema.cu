// CUDA kernels of adam_ema; the contract is in csrc/adam_ema.h. A block steps one chunk of one
// tensor. The step counters are counted up once all blocks have read them: by the last block, which
// knows that it is the last by its ticket, or else by a second kernel.
#include "adam_ema.h"

#include "elementwise.h"
#include "launch.h"
#include "multi_tensor.h"

namespace smoothdistill::cuda {
namespace {

// What a launch needs of a tensor.
template <class T, class W>
struct Tensor {
  W* weight;
  const W* gradient;  // null: EMA alone
  T* exp_avg;
  T* exp_avg_sq;
  T* teacher;  // null: no EMA
  std::int64_t length;
  AdamStep step;
};

// What a launch of the second kernel counts up.
constexpr int kCounters = 448;
struct Counters {
  float* counters[kCounters];
  int size;
};

static_assert(sizeof(ChunkTable<Tensor<float, float>>) + sizeof(AdamSettings) <= kParameterBytes);
static_assert(sizeof(Counters) + sizeof(DeviceNumber) <= kParameterBytes);

template <class T>
__device__ __forceinline__ AdamFactors<T> read_factors(const AdamSettings& settings,
                                                       const AdamStep& step) {
  AdamOptions options = settings.options;
  options.lr = read(settings.lr);
  options.gradient_factor = read(settings.clip_factor) / read(settings.grad_scale);
  return adam_factors<T>(
      options, step.counter != nullptr ? static_cast<double>(*step.counter) + 1.0 : step.number);
}

// The elements [i, i + kWidth) of a tensor. `ema_weight` is 1 - decay: at 0 the teacher is left as
// it is, at 1 it becomes a copy.
template <int kWidth, class T, class W>
__device__ __forceinline__ void step_pack(const Tensor<T, W>& tensor, std::int64_t i,
                                          const AdamFactors<T>& factors, T ema_weight) {
  Pack<W, kWidth> stored = load<kWidth>(tensor.weight + i);
  Pack<T, kWidth> weight;
#pragma unroll
  for (int k = 0; k < kWidth; ++k) weight.values[k] = widen(stored.values[k]);
  // Before the first store, so that all loads are under way at once.
  const bool averages = tensor.teacher != nullptr && ema_weight != T(0) && ema_weight != T(1);
  Pack<T, kWidth> teacher{};
  if (averages) teacher = load<kWidth>(tensor.teacher + i);
  if (tensor.gradient != nullptr) {
    const Pack<W, kWidth> gradient = load<kWidth>(tensor.gradient + i);
    Pack<T, kWidth> exp_avg = load<kWidth>(tensor.exp_avg + i);
    Pack<T, kWidth> exp_avg_sq = load<kWidth>(tensor.exp_avg_sq + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      adam_element(weight.values[k], widen(gradient.values[k]), exp_avg.values[k],
                   exp_avg_sq.values[k], factors);
      narrow(weight.values[k], stored.values[k]);
      weight.values[k] = widen(stored.values[k]);  // the average is that of what is stored
    }
    store(tensor.weight + i, stored);
    store(tensor.exp_avg + i, exp_avg);
    store(tensor.exp_avg_sq + i, exp_avg_sq);
  }
  if (!averages) {
    if (tensor.teacher != nullptr && ema_weight == T(1)) store(tensor.teacher + i, weight);
    return;
  }
#pragma unroll
  for (int k = 0; k < kWidth; ++k) {
    teacher.values[k] = lerp(teacher.values[k], weight.values[k], ema_weight);
  }
  store(tensor.teacher + i, teacher);
}

template <class T, class W>
__global__ void __launch_bounds__(kThreads)
    step_and_average(const __grid_constant__ ChunkTable<Tensor<T, W>> table,
                     const __grid_constant__ AdamSettings settings) {
  if (read(settings.found_inf) != 0.0) return;  // every thread of every block
  const Chunk chunk = find_chunk(table, blockIdx.x);
  const Tensor<T, W>& tensor = table.tensors[chunk.slot];
  // Two powers in double: computed once a block.
  __shared__ AdamFactors<T> shared_factors;
  if (threadIdx.x == 0 && tensor.gradient != nullptr) {
    shared_factors = read_factors<T>(settings, tensor.step);
  }
  __syncthreads();
  const AdamFactors<T> factors = shared_factors;
  const T ema_weight = static_cast<T>(1.0 - read(settings.decay));

  constexpr int kPack = 16 / sizeof(T);
  const bool aligned = is_aligned<kPack>(tensor.weight) && is_aligned<kPack>(tensor.gradient) &&
                       is_aligned<kPack>(tensor.exp_avg) && is_aligned<kPack>(tensor.exp_avg_sq) &&
                       is_aligned<kPack>(tensor.teacher);
  for_each_pack<kPack>(chunk, aligned, [&](auto width, std::int64_t i) {
    step_pack<decltype(width)::value>(tensor, i, factors, ema_weight);
  });
  if (settings.ticket == nullptr) return;

  // The ticket is back at zero after the last block. Counters were read by thread 0 alone.
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    __threadfence();
    is_last = atomicInc(settings.ticket, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!is_last) return;
  for (std::int64_t i = threadIdx.x; i < table.num_tensors; i += kThreads) {
    float* const counter = table.tensors[i].step.counter;
    if (counter != nullptr) *counter += 1.0F;
  }
}

__global__ void __launch_bounds__(kThreads)
    count_up(const __grid_constant__ Counters table,
             const __grid_constant__ DeviceNumber found_inf) {
  if (read(found_inf) != 0.0) return;
  for (int i = static_cast<int>(threadIdx.x); i < table.size; i += kThreads) {
    *table.counters[i] += 1.0F;
  }
}

int launch_count_up(const AdamStep* steps, std::int64_t num_steps, const DeviceNumber& found_inf,
                    void* stream) {
  Counters table{};
  for (std::int64_t i = 0; i < num_steps; ++i) {
    if (steps[i].counter != nullptr) table.counters[table.size++] = steps[i].counter;
    if (table.size == kCounters || (i + 1 == num_steps && table.size > 0)) {
      if (const int status = launch(count_up, 1, kThreads, stream, table, found_inf)) return status;
      table.size = 0;
    }
  }
  return cudaSuccess;
}

template <class T, class W>
int run(const AdamSpan<T, W>* spans, const AdamStep* steps, std::int64_t num_spans,
        AdamSettings settings, void* stream) {
  for (std::int64_t i = 0; i < num_spans; ++i) {
    // No block comes by an empty tensor, to count its counter up.
    if (spans[i].length == 0 && steps[i].counter != nullptr) settings.ticket = nullptr;
  }
  const auto tensor = [=](std::int64_t i) {
    const AdamSpan<T, W>& span = spans[i];
    return Tensor<T, W>{span.weight,  span.gradient, span.exp_avg, span.exp_avg_sq,
                        span.teacher, span.length,   steps[i]};
  };
  using Table = ChunkTable<Tensor<T, W>>;
  const int status =
      for_each_table<Tensor<T, W>>(num_spans, tensor, [&](const Table& table) -> int {
        if (table.num_chunks() > kMaxChunks) return cudaErrorInvalidConfiguration;
        const auto num_blocks = static_cast<unsigned>(table.num_chunks());
        return launch(step_and_average<T, W>, num_blocks, kThreads, stream, table, settings);
      });
  return status != cudaSuccess || settings.ticket != nullptr
             ? status
             : launch_count_up(steps, num_spans, settings.found_inf, stream);
}

}  // namespace

int adam_ema(const AdamSpan<float>* spans, const AdamStep* steps, std::int64_t num_spans,
             const AdamSettings& settings, void* stream) {
  return run(spans, steps, num_spans, settings, stream);
}

int adam_ema(const AdamSpan<double>* spans, const AdamStep* steps, std::int64_t num_spans,
             const AdamSettings& settings, void* stream) {
  return run(spans, steps, num_spans, settings, stream);
}

int adam_ema(const AdamSpan<float, Bfloat16>* spans, const AdamStep* steps, std::int64_t num_spans,
             const AdamSettings& settings, void* stream) {
  return run(spans, steps, num_spans, settings, stream);
}

int adam_ema(const AdamSpan<float, Float16>* spans, const AdamStep* steps, std::int64_t num_spans,
             const AdamSettings& settings, void* stream) {
  return run(spans, steps, num_spans, settings, stream);
}

}  // namespace smoothdistill::cuda
