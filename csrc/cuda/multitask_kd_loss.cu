// CUDA kernels of multitask_kd_loss; the contract is in csrc/multitask_kd_loss.h. The logits of a
// row are shared by the lanes of a group. A small batch takes one launch of one block, half of
// which has every other head; all sums of a head are made at once. A large batch takes three
// launches for all heads: denominators (one block a head), rows (their gradient and, summed by
// block, their part of the loss), totals (one block). No atomics: each sum has one order, which
// depends on the shapes alone. Beyond some 10^5 rows the one block a head of the first of the three
// would be the slowest part.
#include "multitask_kd_loss.h"

#include "elementwise.h"
#include "launch.h"
#include "loss_row.h"
#include "reduce.h"

namespace smoothdistill::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWholeThreads = 512;                       // of the one block of a small batch
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

// Fills the denominators of a head, in every thread of a block, and counts its targets that are out
// of range.
template <class T>
__device__ __forceinline__ std::int64_t find_denominators(LossHead<T>& head) {
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
  head.num_valid = block_sum<kThreads>(num_valid);
  head.label_weight = block_sum<kThreads>(label_weight);
  head.class_weight_sum = block_sum<kThreads>(class_weight_sum);
  return block_sum<kThreads>(num_wrong);
}

// Block `block` of `num_blocks`: its share of a head's rows, and their sums in every thread.
template <class T>
__device__ __forceinline__ LossSums add_rows(const LossHead<T>& head, std::int64_t block,
                                             std::int64_t num_blocks) {
  const GradientFactors<T> factors = gradient_factors(head);
  LossSums sums{0.0, 0.0, 0};
  with_lanes(num_lanes(head.num_classes), [&](auto lanes) {
    constexpr int kLanes = decltype(lanes)::value;
    constexpr int kGroups = kThreads / kLanes;
    const int group = static_cast<int>(threadIdx.x) / kLanes;
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    for (std::int64_t first = block * kGroups; first < head.num_rows;
         first += num_blocks * kGroups) {
      const bool is_row = first + group < head.num_rows;
      const std::int64_t row = is_row ? first + group : 0;
      const auto softmaxes = row_softmaxes<kLanes>(head, factors, row, is_row, lane, sums);
      if (is_row) write_gradient<kLanes>(head, factors, row, lane, softmaxes);
    }
    if (lane != 0) sums = {0.0, 0.0, 0};  // which it shares with the first lane of its group
  });
  return {block_sum<kThreads>(sums.cross_entropy), block_sum<kThreads>(sums.divergence),
          block_sum<kThreads>(sums.num_correct)};
}

// Writes the outputs of head `number`, and returns what it adds to the total; for one thread.
template <class T>
__device__ __forceinline__ double write_head(const LossHead<T>& head, std::int64_t num_wrong,
                                             const LossSums& sums, std::int64_t number,
                                             const LossOutputs<T>& out) {
  LossParts parts = loss_parts(head, sums);
  if (num_wrong != 0) {
    parts.cross_entropy = nan("");
    parts.weighted = nan("");
  }
  out.cross_entropy[number] = static_cast<T>(parts.cross_entropy);
  out.distillation[number] = static_cast<T>(parts.distillation);
  out.num_correct[number] = sums.num_correct;
  out.num_valid[number] = head.num_valid;
  return parts.weighted;
}

// Lanes that share a row of a small batch: fewer, so that its rows have fewer exchanges.
SD_MATH int num_lanes_of_small(std::int64_t num_classes) {
  return num_classes <= 32 ? 4 : num_classes <= 64 ? 8 : 32;
}

// All that is summed over the rows of a head.
struct HeadSums {
  LossSums loss;
  double label_weight;  // with class weights
  int num_valid;
  int num_wrong;

  __device__ void add(const HeadSums& other) {
    loss.cross_entropy += other.loss.cross_entropy;
    loss.divergence += other.loss.divergence;
    loss.num_correct += other.loss.num_correct;
    label_weight += other.label_weight;
    num_valid += other.num_valid;
    num_wrong += other.num_wrong;
  }
};

// Threads of a block that have a head to themselves: whole warps.
struct Team {
  int thread;
  int num_threads;
};

// A team: the sums of a head over the rows of each warp, in all its lanes, and the softmaxes of the
// last row of each group. Fills in the sum of the class weights.
template <int kLanes, class T>
__device__ __forceinline__ HeadSums add_head(LossHead<T>& head, Team team, RowSoftmaxes<T>& last) {
  const int group = team.thread / kLanes, num_groups = team.num_threads / kLanes;
  const int lane = team.thread % kLanes;
  head.class_weight_sum = static_cast<double>(head.num_classes);
  if (head.class_weights != nullptr) {
    double sum = 0.0;
    for (std::int64_t c = lane; c < head.num_classes; c += kLanes) {
      sum += static_cast<double>(head.class_weights[c]);
    }
    head.class_weight_sum = group_sum<kLanes>(sum);
  }
  const GradientFactors<T> factors = gradient_factors(head);  // but for the denominators
  HeadSums sums{};
  for (std::int64_t first = 0; first < head.num_rows; first += num_groups) {
    const bool is_row = first + group < head.num_rows;
    const std::int64_t row = is_row ? first + group : 0;
    last = row_softmaxes<kLanes>(head, factors, row, is_row, lane, sums.loss);
    const std::int64_t target = head.targets[row];
    const bool counts = is_row && target != head.ignore_index;
    const bool is_valid = counts && is_in_range(head, target);
    sums.num_valid += is_valid;
    sums.num_wrong += counts && !is_valid;
    if (is_valid && head.class_weights) {
      sums.label_weight += static_cast<double>(head.class_weights[target]);
    }
  }
  sums.loss.cross_entropy = sum_of_groups<kLanes>(sums.loss.cross_entropy);
  sums.loss.divergence = sum_of_groups<kLanes>(sums.loss.divergence);
  sums.loss.num_correct = sum_of_groups<kLanes>(static_cast<int>(sums.loss.num_correct));
  if (head.class_weights) sums.label_weight = sum_of_groups<kLanes>(sums.label_weight);
  sums.num_valid = sum_of_groups<kLanes>(sums.num_valid);
  sums.num_wrong = sum_of_groups<kLanes>(sums.num_wrong);
  return sums;
}

// A team: the gradient of a head whose denominators are known.
template <int kLanes, class T>
__device__ __forceinline__ void write_head_gradient(const LossHead<T>& head, Team team,
                                                    RowSoftmaxes<T> softmaxes) {
  const int group = team.thread / kLanes, num_groups = team.num_threads / kLanes;
  const int lane = team.thread % kLanes;
  const GradientFactors<T> factors = gradient_factors(head);
  for (std::int64_t first = 0; first < head.num_rows; first += num_groups) {
    const bool is_row = first + group < head.num_rows;
    const std::int64_t row = is_row ? first + group : 0;
    if (head.num_rows > num_groups) {  // else it is the one row of the group
      LossSums done{};
      softmaxes = row_softmaxes<kLanes>(head, factors, row, is_row, lane, done);
    }
    if (is_row) write_gradient<kLanes>(head, factors, row, lane, softmaxes);
  }
}

// One block: everything.
template <class T>
__global__ void __launch_bounds__(kWholeThreads)
    whole_loss(const __grid_constant__ HeadTable<T> table,
               const __grid_constant__ LossOutputs<T> out) {
  constexpr int kWarps = kWholeThreads / kWarpThreads;
  __shared__ HeadSums by_warp[kWarps];
  __shared__ double weighted[kTableHeads];
  const int thread = static_cast<int>(threadIdx.x), num_teams = table.size > 1 ? 2 : 1;
  const int team_threads = kWholeThreads / num_teams, number_of_team = thread / team_threads;
  const Team team{thread % team_threads, team_threads};
  const int first_warp = number_of_team * (team_threads / kWarpThreads);
  for (int first = 0; first < table.size; first += num_teams) {
    const int number = first + number_of_team;
    const bool is_head = number < table.size;  // else the team has nothing to do, but waits
    LossHead<T> head = read_head(table, static_cast<unsigned>(is_head ? number : 0));
    RowSoftmaxes<T> softmaxes{};
    if (is_head) {
      with_lanes(num_lanes_of_small(head.num_classes), [&](auto lanes) {
        const HeadSums sums = add_head<decltype(lanes)::value>(head, team, softmaxes);
        if (thread % kWarpThreads == 0) by_warp[thread / kWarpThreads] = sums;
      });
    }
    __syncthreads();
    if (is_head) {
      HeadSums sums{};
      for (int warp = 0; warp < team_threads / kWarpThreads; ++warp) {
        sums.add(by_warp[first_warp + warp]);
      }
      head.num_valid = sums.num_valid;
      head.label_weight = head.class_weights ? sums.label_weight : sums.num_valid;
      with_lanes(num_lanes_of_small(head.num_classes), [&](auto lanes) {
        write_head_gradient<decltype(lanes)::value>(head, team, softmaxes);
      });
      if (team.thread == 0) {
        weighted[number] = write_head(head, sums.num_wrong, sums.loss, number, out);
      }
    }
    __syncthreads();  // the next heads' sums go to the same memory
  }
  if (thread != 0) return;
  double total = 0.0;
  for (int number = 0; number < table.size; ++number) total += weighted[number];
  *out.total = static_cast<T>(total);
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
  const std::int64_t num_wrong = find_denominators(head);
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
  const LossSums sums = add_rows(head, blockIdx.x, num_blocks);
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
    if (threadIdx.x != 0) continue;
    total += write_head(head, workspace.num_wrong, sums, number, out);
    workspace.total = total;
    *out.total = static_cast<T>(total);
  }
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
    lanes += heads[i].num_rows * num_lanes_of_small(heads[i].num_classes);
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
