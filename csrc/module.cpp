// smoothdistill._core: argument checks, then the CPU kernels. A table of contents of the ops.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <vector>

#include "adam_ema.h"
#include "arguments.h"
#include "column_arguments.h"
#include "conv_net.h"
#include "conv_pool_calls.h"
#include "ema_update.h"
#include "linear_calls.h"
#include "multitask_kd_loss.h"
#include "parallel.h"
#include "simd.h"
#include "tensor_view.h"

namespace smoothdistill {

SimdLevel simd_level = SimdLevel::kBaseline;
ParallelExecutor parallel_executor = nullptr;

namespace {

using dlpack::kAnyCpu;

SimdLevel highest_simd_level() {
#if defined(SMOOTHDISTILL_HAS_X86_LEVELS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return SimdLevel::kAvx512;
  if (__builtin_cpu_supports("x86-64-v3")) return SimdLevel::kAvx2;
#endif
  return SimdLevel::kBaseline;
}

// Whether the kernels that end in `_bfloat16` may be called.
bool has_bfloat16_products() {
#if defined(SMOOTHDISTILL_HAS_X86_LEVELS)
  return simd_level == SimdLevel::kAvx512 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

const char* simd_name(SimdLevel level) {
#if defined(SMOOTHDISTILL_HAS_X86_LEVELS)
  constexpr const char* kNames[] = {"sse2", "avx2", "avx512"};
#else
  constexpr const char* kNames[] = {"baseline", "", ""};
#endif
  return kNames[static_cast<int>(level)];
}

std::vector<std::string> simd_levels() {
  std::vector<std::string> names;
  for (int level = 0; level <= static_cast<int>(highest_simd_level()); ++level) {
    names.emplace_back(simd_name(static_cast<SimdLevel>(level)));
  }
  return names;
}

void set_simd_level(const std::string& name) {
  const std::vector<std::string> names = simd_levels();
  std::string all;
  for (std::size_t level = 0; level < names.size(); ++level) {
    if (names[level] == name) {
      simd_level = static_cast<SimdLevel>(level);
      return;
    }
    all += (level ? ", " : "") + names[level];
  }
  throw py::value_error("`SMOOTHDISTILL_SIMD` must be one of " + all +
                        " on this processor, but is '" + name + "' instead.");
}

void ema_update(py::handle teacher, py::handle student, double decay) {
  const TensorList teachers(teacher, "teacher"), students(student, "student");
  const std::vector<EmaSpan> spans = ema_spans(teachers, students, kAnyCpu);
  parallel_for_spans(
      teachers.size(), [&](std::int64_t i) { return spans[static_cast<std::size_t>(i)].length; },
      [&](std::int64_t i, std::int64_t begin, std::int64_t end) {
        SD_CALL(ema_update, spans[static_cast<std::size_t>(i)], begin, end, decay);
      });
}

template <class T, class W>
void adam_ema_typed(const AdamLists& lists, const TensorView& first, const AdamOptions& options,
                    double decay) {
  std::vector<AdamSpan<T, W>> spans = adam_spans<T, W>(lists, first);
  const std::vector<float*> counters = step_counters(lists, kAnyCpu);
  double factors_step = -1.0;  // the tensors are nearly always at one step: compute its powers once
  AdamFactors<T> factors{};
  for (std::size_t i = 0; i < spans.size(); ++i) {
    if (spans[i].gradient == nullptr) continue;
    const double step =
        counters[i] == nullptr ? lists.step : static_cast<double>(*counters[i]) + 1.0;
    if (step != factors_step) {
      factors = adam_factors<T>(options, step);
      factors_step = step;
    }
    spans[i].factors = factors;
  }
  // Every argument has been checked: only now is anything written.
  parallel_for_spans(
      lists.params.size(),
      [&](std::int64_t i) { return spans[static_cast<std::size_t>(i)].length; },
      [&](std::int64_t i, std::int64_t begin, std::int64_t end) {
        SD_CALL(adam_ema, spans[static_cast<std::size_t>(i)], begin, end, decay);
      });
  for (float* counter : counters) {
    if (counter != nullptr) *counter += 1.0F;
  }
}

void adam_ema(py::handle params, py::handle grads, py::handle exp_avgs, py::handle exp_avg_sqs,
              py::handle teacher, py::handle step, double lr, double beta1, double beta2,
              double eps, double weight_decay, bool decoupled, double decay, py::handle grad_scale,
              py::handle found_inf, py::handle clip_factor) {
  const AdamLists lists = adam_lists(params, grads, exp_avgs, exp_avg_sqs, teacher, step);
  const double skip = scalar(found_inf, "found_inf").value_or(0.0);
  const double gradient_factor = scalar(clip_factor, "clip_factor").value_or(1.0) /
                                 scalar(grad_scale, "grad_scale").value_or(1.0);
  if (lists.params.size() == 0 || skip != 0.0) return;
  const AdamOptions options{lr, beta1, beta2, eps, weight_decay, decoupled, gradient_factor};
  const TensorView first = view(lists.params[0], kAnyCpu, lists.params.name(0), Layout::kDense);
  with_adam_types(first, lists.params.name(0), [&](auto type, auto stored) {
    adam_ema_typed<decltype(type), decltype(stored)>(lists, first, options, decay);
  });
}

// What the memory holds: class weights that make sense, and targets in range. Finds the
// denominators.
template <class T>
void check_values(LossHead<T>& head, const LossLists& lists, std::int64_t task) {
  for (std::int64_t c = 0; head.class_weights != nullptr && c < head.num_classes; ++c) {
    const auto weight = static_cast<double>(head.class_weights[c]);
    if (!(weight >= 0.0 && std::isfinite(weight))) {
      throw py::value_error(lists.class_weights.name(task).text() +
                            " must hold finite numbers of at least 0, but holds " +
                            std::to_string(weight) + " for class " + std::to_string(c) +
                            " instead.");
    }
  }
  const std::int64_t wrong = loss_denominators(head);
  if (wrong >= 0) {
    throw py::value_error(lists.targets.name(task).text() + " must hold class indices in [0, " +
                          std::to_string(head.num_classes) + ") or " +
                          std::to_string(head.ignore_index) + ", but holds " +
                          std::to_string(head.targets[wrong]) + " in row " + std::to_string(wrong) +
                          " instead.");
  }
}

// Sums over fixed blocks of rows, so that the result does not depend on the number of threads.
template <class T>
LossSums loss_sums(const LossHead<T>& head) {
  constexpr std::int64_t kBlockRows = 256;
  const std::int64_t num_blocks = (head.num_rows + kBlockRows - 1) / kBlockRows;
  std::vector<LossSums> blocks(static_cast<std::size_t>(num_blocks));
  const std::int64_t grain = kParallelGrain / (kBlockRows * head.num_classes) + 1;
  parallel_for(num_blocks, grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * kBlockRows;
      const std::int64_t end = std::min(begin + kBlockRows, head.num_rows);
      blocks[static_cast<std::size_t>(block)] = SD_CALL(multitask_kd_loss, head, begin, end);
    }
  });
  LossSums sums{0.0, 0.0, 0};
  for (const LossSums& block : blocks) {
    sums.cross_entropy += block.cross_entropy;
    sums.divergence += block.divergence;
    sums.num_correct += block.num_correct;
  }
  return sums;
}

template <class T>
void multitask_kd_loss_typed(const LossLists& lists, const LossResults& results,
                             const TensorView& first) {
  std::vector<LossHead<T>> heads;
  for (std::int64_t task = 0; task < lists.student.size(); ++task) {
    heads.push_back(loss_head<T>(lists, task, first));
    check_values(heads.back(), lists, task);
  }
  const LossOutputs<T> out = loss_outputs<T>(results, kAnyCpu);
  double total = 0.0;
  for (std::size_t task = 0; task < heads.size(); ++task) {
    const LossSums sums = loss_sums(heads[task]);
    const LossParts parts = loss_parts(heads[task], sums);
    out.cross_entropy[task] = static_cast<T>(parts.cross_entropy);
    out.distillation[task] = static_cast<T>(parts.distillation);
    out.num_correct[task] = sums.num_correct;
    out.num_valid[task] = heads[task].num_valid;
    total += parts.weighted;
  }
  *out.total = static_cast<T>(total);
}

void multitask_kd_loss(py::handle student, py::handle teacher, py::handle targets,
                       py::handle class_weights, std::vector<double> task_weights,
                       std::vector<double> distill_weight, std::vector<double> temperature,
                       std::vector<double> label_smoothing, std::int64_t ignore_index,
                       py::handle total, py::handle cross_entropy, py::handle distillation,
                       py::handle num_correct, py::handle num_valid, py::handle gradients) {
  const LossLists lists = loss_lists(
      student, teacher, targets, class_weights, gradients, std::move(task_weights),
      std::move(distill_weight), std::move(temperature), std::move(label_smoothing), ignore_index);
  const LossResults results{total, cross_entropy, distillation, num_correct, num_valid};
  const TensorView first = view(lists.student[0], kAnyCpu, lists.student.name(0));
  with_float_type(first, lists.student.name(0), [&](auto type) {
    multitask_kd_loss_typed<decltype(type)>(lists, results, first);
  });
}

template <class Kernels>
void def_linear(py::module_& m, const std::string& format) {
  m.def(("linear_forward" + format).c_str(), &linear_forward<Kernels>);
  m.def(("linear_backward_input" + format).c_str(), &linear_backward_input<Kernels>);
  m.def(("linear_backward_weight" + format).c_str(), &linear_backward_weight<Kernels>);
  m.def(("linear_adam_ema" + format + "_").c_str(), &linear_adam_ema<Kernels>);
}

}  // namespace
}  // namespace smoothdistill

PYBIND11_MODULE(_core, m) {
  namespace sd = smoothdistill;
  sd::simd_level = sd::highest_simd_level();

  m.doc() = "CPU kernels of smoothdistill; call them through smoothdistill.ops.";
  m.def("simd_levels", &sd::simd_levels, "Instruction sets of this processor, lowest first.");
  m.def("simd_level", [] { return sd::simd_name(sd::simd_level); }, "The one in force.");
  m.def("set_simd_level", &sd::set_simd_level);
  m.def("set_parallel_executor", [](std::uintptr_t address) {
    sd::parallel_executor = reinterpret_cast<sd::ParallelExecutor>(address);
  });
  m.def("ema_update_", &sd::ema_update);
  m.def("adam_ema_", &sd::adam_ema);
  m.def("multitask_kd_loss", &sd::multitask_kd_loss);
  m.def("conv_pool", &sd::conv_pool);
  m.def("conv_pool_backward", &sd::conv_pool_backward);
  m.def("conv_pool_columns", &sd::conv_pool_columns);
  m.def("conv_pool_backward_columns", &sd::conv_pool_backward_columns);
  m.def("conv_pool_workspace_floats", &sd::conv_pool_workspace_size);
  sd::def_linear<sd::FloatKernels>(m, "");
  m.def("has_bfloat16_products", &sd::has_bfloat16_products);
#if defined(SMOOTHDISTILL_HAS_X86_LEVELS)
  sd::def_linear<sd::Bfloat16Kernels>(m, "_bfloat16");
  m.def("conv_pool_columns_bfloat16", &sd::conv_pool_columns_bfloat16);
#endif
  m.def("conv_net_logits", &sd::conv_net_logits);
  m.def("to_columns", &sd::to_columns_of);
  m.def("from_columns", &sd::from_columns_of);
}
