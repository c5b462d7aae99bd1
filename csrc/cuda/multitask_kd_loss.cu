// CUDA kernels of multitask_kd_loss; the contract is in csrc/multitask_kd_loss.h. The logits of a
// row are shared by the lanes of a group, as many of them as a few classes need. A small batch
// takes one launch of one block. A large one takes three for all heads: denominators (one block a
// head), rows (their gradient and, summed by block, their part of the loss), totals (one block). No
// atomics: each sum has one order, which depends on the shapes alone. Beyond some 10^5 rows the one
// block a head of the first of the three would be the slowest part.
#include "multitask_kd_loss.h"

#include "elementwise.h"
#include "launch.h"
#include "reduce.h"

namespace smoothdistill::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWholeThreads = 1024;                      // of the one block of a small batch
constexpr std::int64_t kWholeLanes = 8 * kWholeThreads;  // of its rows: eight times around
constexpr std::int64_t kMaxBlocks = 1024;                // of the rows of one head

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

SD_MATH std::int64_t num_row_blocks(std::int64_t num_rows, std::int64_t num_classes) {
  const std::int64_t rows_of_block = kThreads / num_lanes(num_classes);
  const std::int64_t needed = (num_rows + rows_of_block - 1) / rows_of_block;
  return needed < kMaxBlocks ? needed : kMaxBlocks;
}

// A head with those of its numbers that lie on the device.
template <class T>
__device__ __forceinline__ LossHead<T> read_head(const HeadTable<T>& table, unsigned index) {
  LossHead<T> head = table.heads[index];
  if (head.distill_weight_at != nullptr) head.distill_weight = *head.distill_weight_at;
  if (head.temperature_at != nullptr) head.temperature = *head.temperature_at;
  return head;
}

template <class T>
__device__ __forceinline__ bool is_in_range(const LossHead<T>& head, std::int64_t target) {
  return target >= 0 && target < head.num_classes;
}

// Fills the denominators of a head, in every thread of a block, and counts its targets that are out
// of range.
template <int kBlockThreads, class T>
__device__ __forceinline__ std::int64_t find_denominators(LossHead<T>& head) {
  std::int64_t num_valid = 0, num_wrong = 0;
  double label_weight = 0.0, class_weight_sum = 0.0;
  for (std::int64_t row = threadIdx.x; row < head.num_rows; row += kBlockThreads) {
    const std::int64_t target = head.targets[row];
    if (target == head.ignore_index) continue;
    if (!is_in_range(head, target)) {
      ++num_wrong;
      continue;
    }
    ++num_valid;
    label_weight += head.class_weights ? static_cast<double>(head.class_weights[target]) : 1.0;
  }
  for (std::int64_t c = threadIdx.x; c < head.num_classes; c += kBlockThreads) {
    class_weight_sum += head.class_weights ? static_cast<double>(head.class_weights[c]) : 1.0;
  }
  head.num_valid = block_sum<kBlockThreads>(num_valid);
  head.label_weight = block_sum<kBlockThreads>(label_weight);
  head.class_weight_sum = block_sum<kBlockThreads>(class_weight_sum);
  return block_sum<kBlockThreads>(num_wrong);
}

// A group of lanes: the gradient of one row, whose sums are added to `sums` alike in every lane.
// The lane takes the classes lane, lane + kLanes, ... A group past the last row (`is_row` false)
// goes along with row 0, since all lanes of a warp exchange, and leaves nothing behind.
template <int kLanes, class T>
__device__ __forceinline__ void add_row(const LossHead<T>& head, const GradientFactors<T>& f,
                                        std::int64_t row, bool is_row, int lane, LossSums& sums) {
  const std::int64_t num_classes = head.num_classes, given = head.targets[row];
  const bool is_valid = given != head.ignore_index && is_in_range(head, given);
  const std::int64_t target = is_valid ? given : 0;
  const T* z = head.student + row * num_classes;
  const bool smooths = head.label_smoothing != 0.0;
  const T label_weight = head.class_weights ? head.class_weights[target] : T(1);
  LossSums own{0.0, 0.0, 0};

  // Every lane begins with class 0, as the CPU does: a NaN there stays, elsewhere it is passed by.
  // Either way the sum of the exponentials is NaN.
  T z_max = z[0];
  std::int64_t best = 0;
  for (std::int64_t c = lane; c < num_classes; c += kLanes) {
    if (z[c] > z_max) {
      z_max = z[c];
      best = c;
    }
  }
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, z_max, offset);
    const std::int64_t other_best = __shfl_xor_sync(kAllLanes, best, offset);
    if (other > z_max || (other == z_max && other_best < best)) {
      z_max = other;
      best = other_best;
    }
  }

  T hard_sum = T(0), smooth_sum = T(0);
  for (std::int64_t c = lane; c < num_classes; c += kLanes) {
    const T d = z[c] - z_max;
    hard_sum += exponential_of_negative(d);
    if (smooths) smooth_sum += (head.class_weights ? head.class_weights[c] : T(1)) * d;
  }
  hard_sum = group_sum<kLanes>(hard_sum);
  const T hard_log = logarithm(hard_sum);
  own.cross_entropy =
      static_cast<double>(f.target_share * label_weight * (hard_log - (z[target] - z_max)));
  T hard_scale = f.target_share * label_weight;
  if (smooths) {
    smooth_sum = group_sum<kLanes>(smooth_sum);
    own.cross_entropy +=
        static_cast<double>(f.other_share * (f.class_weight_sum * hard_log - smooth_sum));
    hard_scale += f.other_share * f.class_weight_sum;
  }
  hard_scale *= f.hard / hard_sum;
  own.num_correct = best == target && hard_sum == hard_sum;

  const T* teacher = nullptr;
  T teacher_max = T(0), soft_scale = T(0), teacher_scale = T(0);
  if (head.teacher != nullptr) {
    teacher = head.teacher + row * num_classes;
    teacher_max = teacher[0];
    for (std::int64_t c = lane; c < num_classes; c += kLanes) {
      teacher_max = teacher[c] > teacher_max ? teacher[c] : teacher_max;
    }
    teacher_max = group_max<kLanes>(teacher_max);
    T teacher_sum = T(0), soft_sum = T(0), cross = T(0);
    for (std::int64_t c = lane; c < num_classes; c += kLanes) {
      const T a = (z[c] - z_max) * f.inverse_temperature;
      const T b = (teacher[c] - teacher_max) * f.inverse_temperature;
      const T e = exponential_of_negative(b);
      teacher_sum += e;
      soft_sum += exponential_of_negative(a);
      // A class that the teacher rules out (probability 0) adds nothing, whatever its logit.
      cross += e == T(0) ? T(0) : e * (b - a);
    }
    teacher_sum = group_sum<kLanes>(teacher_sum);
    soft_sum = group_sum<kLanes>(soft_sum);
    cross = group_sum<kLanes>(cross);
    own.divergence =
        static_cast<double>(cross / teacher_sum - (logarithm(teacher_sum) - logarithm(soft_sum)));
    soft_scale = f.soft / soft_sum;
    teacher_scale = f.soft / teacher_sum;
  }
  if (!is_row) return;

  // The exponentials are computed again: cheaper than a place to keep any number of them.
  T* gradient = head.gradient + row * num_classes;
  const T instead = given == head.ignore_index ? T(0) : static_cast<T>(nan(""));
  for (std::int64_t c = lane; c < num_classes; c += kLanes) {
    const T d = z[c] - z_max;
    T g = exponential_of_negative(d) * hard_scale;
    if (teacher != nullptr) {
      g += exponential_of_negative(d * f.inverse_temperature) * soft_scale -
           exponential_of_negative((teacher[c] - teacher_max) * f.inverse_temperature) *
               teacher_scale;
    }
    if (smooths) g -= f.hard * f.other_share * (head.class_weights ? head.class_weights[c] : T(1));
    if (c == target) g -= f.hard * f.target_share * label_weight;
    gradient[c] = is_valid ? g : instead;
  }
  if (!is_valid) return;
  sums.cross_entropy += own.cross_entropy;
  sums.divergence += own.divergence;
  sums.num_correct += own.num_correct;
}

// Block `block` of `num_blocks`: its share of a head's rows, and their sums in every thread.
template <int kBlockThreads, class T>
__device__ __forceinline__ LossSums add_rows(const LossHead<T>& head, std::int64_t block,
                                             std::int64_t num_blocks) {
  const GradientFactors<T> factors = gradient_factors(head);
  LossSums sums{0.0, 0.0, 0};
  with_lanes(head.num_classes, [&](auto lanes) {
    constexpr int kLanes = decltype(lanes)::value;
    constexpr int kGroups = kBlockThreads / kLanes;
    const int group = static_cast<int>(threadIdx.x) / kLanes;
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    for (std::int64_t first = block * kGroups; first < head.num_rows;
         first += num_blocks * kGroups) {
      const std::int64_t row = first + group;
      const bool is_row = row < head.num_rows;
      add_row<kLanes>(head, factors, is_row ? row : 0, is_row, lane, sums);
    }
    if (lane != 0) sums = {0.0, 0.0, 0};  // which it shares with the first lane of its group
  });
  return {block_sum<kBlockThreads>(sums.cross_entropy), block_sum<kBlockThreads>(sums.divergence),
          block_sum<kBlockThreads>(sums.num_correct)};
}

// Writes the outputs of head `number`, by one thread, and returns what it adds to the total.
template <class T>
__device__ __forceinline__ double write_head(const LossHead<T>& head, std::int64_t num_wrong,
                                             const LossSums& sums, std::int64_t number,
                                             const LossOutputs<T>& out) {
  LossParts parts = loss_parts(head, sums);
  if (num_wrong != 0) {
    parts.cross_entropy = nan("");
    parts.weighted = nan("");
  }
  if (threadIdx.x == 0) {
    out.cross_entropy[number] = static_cast<T>(parts.cross_entropy);
    out.distillation[number] = static_cast<T>(parts.distillation);
    out.num_correct[number] = sums.num_correct;
    out.num_valid[number] = head.num_valid;
  }
  return parts.weighted;
}

// One block: everything.
template <class T>
__global__ void __launch_bounds__(kWholeThreads)
    whole_loss(const __grid_constant__ HeadTable<T> table,
               const __grid_constant__ LossOutputs<T> out) {
  double total = 0.0;
  for (unsigned number = 0; number < static_cast<unsigned>(table.size); ++number) {
    LossHead<T> head = read_head(table, number);
    const std::int64_t num_wrong = find_denominators<kWholeThreads>(head);
    const LossSums sums = add_rows<kWholeThreads>(head, 0, 1);
    total += write_head(head, num_wrong, sums, number, out);
  }
  if (threadIdx.x == 0) *out.total = static_cast<T>(total);
}

// The head with its denominators, which an earlier kernel found.
template <class T>
__device__ __forceinline__ LossHead<T> head_of(const HeadTable<T>& table, unsigned index,
                                               const HeadWorkspace& workspace) {
  LossHead<T> head = read_head(table, index);
  head.num_valid = workspace.num_valid;
  head.label_weight = workspace.label_weight;
  head.class_weight_sum = workspace.class_weight_sum;
  return head;
}

// Block b: the denominators of head b.
template <class T>
__global__ void __launch_bounds__(kThreads)
    denominators(const __grid_constant__ HeadTable<T> table, HeadWorkspace* const workspaces) {
  LossHead<T> head = table.heads[blockIdx.x];
  const std::int64_t num_wrong = find_denominators<kThreads>(head);
  if (threadIdx.x != 0) return;
  HeadWorkspace& workspace = workspaces[table.first + blockIdx.x];
  workspace.num_valid = head.num_valid;
  workspace.num_wrong = num_wrong;
  workspace.label_weight = head.label_weight;
  workspace.class_weight_sum = head.class_weight_sum;
}

// Block (x, y): rows of head y.
template <class T>
__global__ void __launch_bounds__(kThreads)
    rows(const __grid_constant__ HeadTable<T> table, HeadWorkspace* const workspaces) {
  const LossHead<T>& given = table.heads[blockIdx.y];
  const std::int64_t num_blocks = num_row_blocks(given.num_rows, given.num_classes);
  if (blockIdx.x >= num_blocks) return;  // the whole block: another head has more rows
  HeadWorkspace& workspace = workspaces[table.first + blockIdx.y];
  const LossHead<T> head = head_of(table, blockIdx.y, workspace);
  const LossSums sums = add_rows<kThreads>(head, blockIdx.x, num_blocks);
  if (threadIdx.x == 0) workspace.blocks[blockIdx.x] = sums;
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
    const std::int64_t num_blocks = num_row_blocks(head.num_rows, head.num_classes);
    LossSums sums{0.0, 0.0, 0};
    for (std::int64_t block = threadIdx.x; block < num_blocks; block += kThreads) {
      sums.cross_entropy += workspace.blocks[block].cross_entropy;
      sums.divergence += workspace.blocks[block].divergence;
      sums.num_correct += workspace.blocks[block].num_correct;
    }
    sums.cross_entropy = block_sum<kThreads>(sums.cross_entropy);
    sums.divergence = block_sum<kThreads>(sums.divergence);
    sums.num_correct = block_sum<kThreads>(sums.num_correct);
    total += write_head(head, workspace.num_wrong, sums, number, out);
    if (threadIdx.x == 0) workspace.total = total;
  }
  if (threadIdx.x == 0) *out.total = static_cast<T>(total);
}

template <class T>
int launch_table(const HeadTable<T>& table, const LossOutputs<T>& outputs,
                 HeadWorkspace* workspaces, void* stream) {
  const auto num_heads = static_cast<unsigned>(table.size);
  std::int64_t num_blocks = 0;
  for (int i = 0; i < table.size; ++i) {
    const std::int64_t needed = num_row_blocks(table.heads[i].num_rows, table.heads[i].num_classes);
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

// Whether one block is to do everything.
template <class T>
bool is_small(const LossHead<T>* heads, std::int64_t num_heads) {
  std::int64_t lanes = 0;
  for (std::int64_t i = 0; i < num_heads && lanes <= kWholeLanes; ++i) {
    if (heads[i].num_rows > kWholeLanes) return false;
    lanes += heads[i].num_rows * num_lanes(heads[i].num_classes);
  }
  return num_heads <= kTableHeads && lanes <= kWholeLanes;
}

template <class T>
int run(const LossHead<T>* heads, std::int64_t num_heads, const LossOutputs<T>& outputs,
        void* workspace, void* stream) {
  if (is_small(heads, num_heads)) {
    HeadTable<T> all{};
    for (; all.size < num_heads; ++all.size) all.heads[all.size] = heads[all.size];
    return launch(whole_loss<T>, 1, kWholeThreads, stream, all, outputs);
  }
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
