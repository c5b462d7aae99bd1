// CUDA kernel of ema_update; the contract is in csrc/ema_update.h. A block updates one chunk of one
// tensor, whatever its kind, so a whole model takes one launch (or one for each 96 tensors).
#include "ema_update.h"

#include "elementwise.h"
#include "launch.h"
#include "multi_tensor.h"

namespace smoothdistill::cuda {
namespace {

using Table = ChunkTable<EmaSpan>;
static_assert(sizeof(Table) + sizeof(DeviceNumber) <= kParameterBytes);

// teacher[i] = combine(teacher[i], student[i]), 16 bytes of the teacher at a time.
template <class T, class S, class Combine>
__device__ __forceinline__ void update_chunk(const EmaSpan& span, const Chunk& chunk,
                                             Combine combine) {
  auto* teacher = static_cast<T*>(span.teacher);
  const auto* student = static_cast<const S*>(span.student);
  constexpr int kPack = 16 / sizeof(T);
  const bool aligned = is_aligned<kPack>(teacher) && is_aligned<kPack>(student);
  for_each_pack<kPack>(chunk, aligned, [&](auto width, std::int64_t i) {
    constexpr int kWidth = decltype(width)::value;
    Pack<T, kWidth> target = load<kWidth>(teacher + i);
    const Pack<S, kWidth> source = load<kWidth>(student + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) target.values[k] = combine(target.values[k], source.values[k]);
    store(teacher + i, target);
  });
}

template <class T>
struct Average {
  T weight;     // 1 - decay
  bool copies;  // decay == 0: lerp alone would make NaN of an infinite value

  __device__ __forceinline__ T operator()(T teacher, T student) const {
    return copies ? student : lerp(teacher, student, weight);
  }
};

__global__ void __launch_bounds__(kThreads)
    update(const __grid_constant__ Table table, const __grid_constant__ DeviceNumber device_decay) {
  const Chunk chunk = find_chunk(table, blockIdx.x);
  const EmaSpan& span = table.tensors[chunk.slot];
  const double decay = read(device_decay);
  if (decay == 1.0 && span.kind != EmaKind::kCopy) return;
  const Average<float> average{static_cast<float>(1.0 - decay), decay == 0.0};
  switch (span.kind) {
    case EmaKind::kFloat32:
      return update_chunk<float, float>(span, chunk, average);
    case EmaKind::kFloat64:
      return update_chunk<double, double>(span, chunk, Average<double>{1.0 - decay, decay == 0.0});
    case EmaKind::kBfloat16ToFloat32:
      return update_chunk<float, std::uint16_t>(
          span, chunk, [&](float teacher, std::uint16_t student) {
            return average(teacher, bfloat16_to_float(student));
          });
    case EmaKind::kFloat16ToFloat32:
      return update_chunk<float, std::uint16_t>(
          span, chunk, [&](float teacher, std::uint16_t student) {
            return average(teacher, float16_to_float(student));
          });
    case EmaKind::kCopy:
      return update_chunk<std::uint8_t, std::uint8_t>(
          span, chunk, [](std::uint8_t, std::uint8_t student) { return student; });
  }
}

}  // namespace

int ema_update(const EmaSpan* spans, std::int64_t num_spans, const DeviceNumber& decay,
               void* stream) {
  const bool keeps_all = decay.is_known() && decay.value == 1.0;
  const auto span = [=](std::int64_t i) {
    EmaSpan result = spans[i];
    if (keeps_all && result.kind != EmaKind::kCopy) result.length = 0;  // nothing to write
    return result;
  };
  return for_each_table<EmaSpan>(num_spans, span, [=](const Table& table) -> int {
    if (table.num_chunks() > kMaxChunks) return cudaErrorInvalidConfiguration;
    const auto num_blocks = static_cast<unsigned>(table.num_chunks());
    return launch(update, num_blocks, kThreads, stream, table, decay);
  });
}

}  // namespace smoothdistill::cuda
