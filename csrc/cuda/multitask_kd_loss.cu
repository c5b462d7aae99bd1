// CUDA kernels of multitask_kd_loss; the contract is in csrc/multitask_kd_loss.h. Three kernels for
// all heads: denominators (one block a head), rows (one warp a row: its gradient and, summed by
// block, its part of the loss), totals (one block). No atomics: each sum has one order, which
// depends on the shapes alone. Sized for batches: beyond some 10^5 rows the one block a head of
// the first kernel would be the slowest part.
#include "multitask_kd_loss.h"

#include "elementwise.h"
#include "launch.h"

namespace smoothdistill::cuda {
namespace {

constexpr int kWarpThreads = 32;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpThreads;
constexpr unsigned kAllLanes = 0xffffffffU;
constexpr std::int64_t kMaxBlocks = 1024;  // of the rows of one head

// A head's scratch memory.
struct HeadWorkspace {
  std::int64_t num_valid;
  double label_weight;
  double class_weight_sum;
  std::int64_t num_wrong;  // targets out of range
  double total;            // of the heads up to this one
  LossSums blocks[kMaxBlocks];
};

// Heads that travel by value with a launch; more of them take several launches.
constexpr int kTableHeads = 24;
template <class T>
struct HeadTable {
  LossHead<T> heads[kTableHeads];
  std::int64_t first;  // number of heads[0] among all
  int size;
};

static_assert(sizeof(HeadTable<double>) + sizeof(LossOutputs<double>) + sizeof(void*) <= 4096);

SD_MATH std::int64_t num_row_blocks(std::int64_t num_rows) {
  const std::int64_t needed = (num_rows + kWarps - 1) / kWarps;
  return needed < kMaxBlocks ? needed : kMaxBlocks;
}

// The sum over a warp, the same bits in every lane (an addition commutes).
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int offset = kWarpThreads / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

template <class T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
  for (int offset = kWarpThreads / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

// The sum over a block, in every thread. Every thread of the block must call it.
template <class T>
__device__ __forceinline__ T block_sum(T value) {
  __shared__ T by_warp[kWarps];
  value = warp_sum(value);
  if (threadIdx.x % kWarpThreads == 0) by_warp[threadIdx.x / kWarpThreads] = value;
  __syncthreads();
  T sum = by_warp[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) sum += by_warp[warp];
  __syncthreads();  // the next call writes to the same memory
  return sum;
}

// The head with its denominators, which an earlier kernel found.
template <class T>
__device__ __forceinline__ LossHead<T> head_of(const HeadTable<T>& table, unsigned index,
                                               const HeadWorkspace& workspace) {
  LossHead<T> head = table.heads[index];
  head.num_valid = workspace.num_valid;
  head.label_weight = workspace.label_weight;
  head.class_weight_sum = workspace.class_weight_sum;
  return head;
}

template <class T>
__device__ __forceinline__ bool is_in_range(const LossHead<T>& head, std::int64_t target) {
  return target >= 0 && target < head.num_classes;
}

// Block b: the denominators of head b.
template <class T>
__global__ void __launch_bounds__(kThreads)
    denominators(const __grid_constant__ HeadTable<T> table, HeadWorkspace* const workspaces) {
  const LossHead<T>& head = table.heads[blockIdx.x];
  std::int64_t num_valid = 0, num_wrong = 0;
  double label_weight = 0.0, class_weight_sum = 0.0;
  for (std::int64_t row = threadIdx.x; row < head.num_rows; row += kThreads) {
    const std::int64_t target = head.targets[row];
    if (target == head.ignore_index) continue;
    if (!is_in_range(head, target)) {
      ++num_wrong;
      continue;
    }
    ++num_valid;
    label_weight += head.class_weights ? static_cast<double>(head.class_weights[target]) : 1.0;
  }
  for (std::int64_t c = threadIdx.x; c < head.num_classes; c += kThreads) {
    class_weight_sum += head.class_weights ? static_cast<double>(head.class_weights[c]) : 1.0;
  }
  num_valid = block_sum(num_valid);
  num_wrong = block_sum(num_wrong);
  label_weight = block_sum(label_weight);
  class_weight_sum = block_sum(class_weight_sum);
  if (threadIdx.x != 0) return;
  HeadWorkspace& workspace = workspaces[table.first + blockIdx.x];
  workspace.num_valid = num_valid;
  workspace.num_wrong = num_wrong;
  workspace.label_weight = label_weight;
  workspace.class_weight_sum = class_weight_sum;
}

template <class T>
__device__ __forceinline__ void fill_row(T* gradient, std::int64_t num_classes, int lane, T value) {
  for (std::int64_t c = lane; c < num_classes; c += kWarpThreads) gradient[c] = value;
}

// A warp: the gradient of one row, whose sums are added to `sums` alike in every lane. The lane
// takes the classes lane, lane + 32, ...
template <class T>
__device__ __forceinline__ void add_row(const LossHead<T>& head, const GradientFactors<T>& f,
                                        std::int64_t row, int lane, LossSums& sums) {
  const std::int64_t num_classes = head.num_classes, target = head.targets[row];
  const T* z = head.student + row * num_classes;
  T* gradient = head.gradient + row * num_classes;
  if (target == head.ignore_index) return fill_row(gradient, num_classes, lane, T(0));
  if (!is_in_range(head, target)) {
    return fill_row(gradient, num_classes, lane, static_cast<T>(nan("")));
  }
  const bool smooths = head.label_smoothing != 0.0;
  const T label_weight = head.class_weights ? head.class_weights[target] : T(1);

  // Every lane begins with class 0, as the CPU does: a NaN there stays, elsewhere it is passed by.
  // Either way the sum of the exponentials is NaN.
  T z_max = z[0];
  std::int64_t best = 0;
  for (std::int64_t c = lane; c < num_classes; c += kWarpThreads) {
    if (z[c] > z_max) {
      z_max = z[c];
      best = c;
    }
  }
#pragma unroll
  for (int offset = kWarpThreads / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, z_max, offset);
    const std::int64_t other_best = __shfl_xor_sync(kAllLanes, best, offset);
    if (other > z_max || (other == z_max && other_best < best)) {
      z_max = other;
      best = other_best;
    }
  }

  T hard_sum = T(0), smooth_sum = T(0);
  for (std::int64_t c = lane; c < num_classes; c += kWarpThreads) {
    const T d = z[c] - z_max;
    hard_sum += exponential_of_negative(d);
    if (smooths) smooth_sum += (head.class_weights ? head.class_weights[c] : T(1)) * d;
  }
  hard_sum = warp_sum(hard_sum);
  const T hard_log = logarithm(hard_sum);
  sums.cross_entropy +=
      static_cast<double>(f.target_share * label_weight * (hard_log - (z[target] - z_max)));
  T hard_scale = f.target_share * label_weight;
  if (smooths) {
    smooth_sum = warp_sum(smooth_sum);
    sums.cross_entropy +=
        static_cast<double>(f.other_share * (f.class_weight_sum * hard_log - smooth_sum));
    hard_scale += f.other_share * f.class_weight_sum;
  }
  hard_scale *= f.hard / hard_sum;
  sums.num_correct += best == target && hard_sum == hard_sum;

  const T* teacher = nullptr;
  T teacher_max = T(0), soft_scale = T(0), teacher_scale = T(0);
  if (head.teacher != nullptr) {
    teacher = head.teacher + row * num_classes;
    teacher_max = teacher[0];
    for (std::int64_t c = lane; c < num_classes; c += kWarpThreads) {
      teacher_max = teacher[c] > teacher_max ? teacher[c] : teacher_max;
    }
    teacher_max = warp_max(teacher_max);
    T teacher_sum = T(0), soft_sum = T(0), cross = T(0);
    for (std::int64_t c = lane; c < num_classes; c += kWarpThreads) {
      const T a = (z[c] - z_max) * f.inverse_temperature;
      const T b = (teacher[c] - teacher_max) * f.inverse_temperature;
      const T e = exponential_of_negative(b);
      teacher_sum += e;
      soft_sum += exponential_of_negative(a);
      // A class that the teacher rules out (probability 0) adds nothing, whatever its logit.
      cross += e == T(0) ? T(0) : e * (b - a);
    }
    teacher_sum = warp_sum(teacher_sum);
    soft_sum = warp_sum(soft_sum);
    cross = warp_sum(cross);
    sums.divergence +=
        static_cast<double>(cross / teacher_sum - (logarithm(teacher_sum) - logarithm(soft_sum)));
    soft_scale = f.soft / soft_sum;
    teacher_scale = f.soft / teacher_sum;
  }

  // The exponentials are computed again: cheaper than a place to keep any number of them.
  for (std::int64_t c = lane; c < num_classes; c += kWarpThreads) {
    const T d = z[c] - z_max;
    T g = exponential_of_negative(d) * hard_scale;
    if (teacher != nullptr) {
      g += exponential_of_negative(d * f.inverse_temperature) * soft_scale -
           exponential_of_negative((teacher[c] - teacher_max) * f.inverse_temperature) *
               teacher_scale;
    }
    if (smooths) g -= f.hard * f.other_share * (head.class_weights ? head.class_weights[c] : T(1));
    if (c == target) g -= f.hard * f.target_share * label_weight;
    gradient[c] = g;
  }
}

// Block (x, y): rows of head y, a warp for each, every num_row_blocks * kWarps rows.
template <class T>
__global__ void __launch_bounds__(kThreads)
    rows(const __grid_constant__ HeadTable<T> table, HeadWorkspace* const workspaces) {
  const std::int64_t num_blocks = num_row_blocks(table.heads[blockIdx.y].num_rows);
  if (blockIdx.x >= num_blocks) return;  // the whole block: another head has more rows
  HeadWorkspace& workspace = workspaces[table.first + blockIdx.y];
  const LossHead<T> head = head_of(table, blockIdx.y, workspace);
  const GradientFactors<T> factors = gradient_factors(head);
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  const int warp = static_cast<int>(threadIdx.x / kWarpThreads);

  LossSums sums{0.0, 0.0, 0};
  for (std::int64_t row = std::int64_t{blockIdx.x} * kWarps + warp; row < head.num_rows;
       row += num_blocks * kWarps) {
    add_row(head, factors, row, lane, sums);
  }

  __shared__ LossSums by_warp[kWarps];
  if (lane == 0) by_warp[warp] = sums;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int other = 1; other < kWarps; ++other) {
    sums.cross_entropy += by_warp[other].cross_entropy;
    sums.divergence += by_warp[other].divergence;
    sums.num_correct += by_warp[other].num_correct;
  }
  workspace.blocks[blockIdx.x] = sums;
}

// One block: the outputs of the table's heads, and the total up to the last of them.
template <class T>
__global__ void __launch_bounds__(kThreads)
    totals(const __grid_constant__ HeadTable<T> table, const __grid_constant__ LossOutputs<T> out,
           HeadWorkspace* const workspaces) {
  double total = table.first == 0 ? 0.0 : workspaces[table.first - 1].total;
  for (int index = 0; index < table.size; ++index) {
    const std::int64_t number = table.first + index;
    HeadWorkspace& workspace = workspaces[number];
    const LossHead<T> head = head_of(table, static_cast<unsigned>(index), workspace);
    const std::int64_t num_blocks = num_row_blocks(head.num_rows);
    LossSums sums{0.0, 0.0, 0};
    for (std::int64_t block = threadIdx.x; block < num_blocks; block += kThreads) {
      sums.cross_entropy += workspace.blocks[block].cross_entropy;
      sums.divergence += workspace.blocks[block].divergence;
      sums.num_correct += workspace.blocks[block].num_correct;
    }
    sums.cross_entropy = block_sum(sums.cross_entropy);
    sums.divergence = block_sum(sums.divergence);
    sums.num_correct = block_sum(sums.num_correct);
    LossParts parts = loss_parts(head, sums);
    if (workspace.num_wrong != 0) {
      parts.cross_entropy = nan("");
      parts.weighted = nan("");
    }
    total += parts.weighted;
    if (threadIdx.x == 0) {
      out.cross_entropy[number] = static_cast<T>(parts.cross_entropy);
      out.distillation[number] = static_cast<T>(parts.distillation);
      out.num_correct[number] = sums.num_correct;
      out.num_valid[number] = head.num_valid;
      workspace.total = total;
    }
  }
  if (threadIdx.x == 0) *out.total = static_cast<T>(total);
}

template <class T>
int launch_table(const HeadTable<T>& table, const LossOutputs<T>& outputs,
                 HeadWorkspace* workspaces, void* stream) {
  const auto num_heads = static_cast<unsigned>(table.size);
  std::int64_t num_blocks = 0;
  for (int i = 0; i < table.size; ++i) {
    const std::int64_t needed = num_row_blocks(table.heads[i].num_rows);
    num_blocks = needed > num_blocks ? needed : num_blocks;
  }
  if (const int status = launch(denominators<T>, num_heads, kThreads, stream, table, workspaces)) {
    return status;
  }
  if (num_blocks > 0) {
    const dim3 grid(static_cast<unsigned>(num_blocks), num_heads);
    if (const int status = launch(rows<T>, grid, kThreads, stream, table, workspaces)) {
      return status;
    }
  }
  return launch(totals<T>, 1, kThreads, stream, table, outputs, workspaces);
}

template <class T>
int run(const LossHead<T>* heads, std::int64_t num_heads, const LossOutputs<T>& outputs,
        void* workspace, void* stream) {
  HeadTable<T> table{};
  for (std::int64_t i = 0; i < num_heads; ++i) {
    table.heads[table.size++] = heads[i];
    if (table.size == kTableHeads || i + 1 == num_heads) {
      table.first = i + 1 - table.size;
      const int status =
          launch_table(table, outputs, static_cast<HeadWorkspace*>(workspace), stream);
      if (status != cudaSuccess) return status;
      table.size = 0;
    }
  }
  return cudaSuccess;
}

}  // namespace

std::int64_t loss_workspace_bytes(std::int64_t num_heads) {
  return num_heads * static_cast<std::int64_t>(sizeof(HeadWorkspace));
}

int multitask_kd_loss(const LossHead<float>* heads, std::int64_t num_heads,
                      const LossOutputs<float>& outputs, void* workspace, void* stream) {
  return run(heads, num_heads, outputs, workspace, stream);
}

int multitask_kd_loss(const LossHead<double>* heads, std::int64_t num_heads,
                      const LossOutputs<double>& outputs, void* workspace, void* stream) {
  return run(heads, num_heads, outputs, workspace, stream);
}

}  // namespace smoothdistill::cuda
