// smoothdistill._core: argument checks, then the CPU kernels. A table of contents of the ops.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <optional>
#include <vector>

#include "adam_ema.h"
#include "ema_update.h"
#include "multitask_kd_loss.h"
#include "parallel.h"
#include "simd.h"
#include "tensor_view.h"

namespace smoothdistill {

SimdLevel simd_level = SimdLevel::kBaseline;
ParallelExecutor parallel_executor = nullptr;

namespace {

constexpr std::int32_t kCpu = dlpack::kCpu;

SimdLevel highest_simd_level() {
#if defined(SMOOTHDISTILL_HAS_X86_LEVELS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return SimdLevel::kAvx512;
  if (__builtin_cpu_supports("x86-64-v3")) return SimdLevel::kAvx2;
#endif
  return SimdLevel::kBaseline;
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
  throw py::value_error("`SMOOTHDISTILL_SIMD` must be one of " + all + " on this processor, but is '" +
                        name + "' instead.");
}

EmaKind ema_kind(const TensorView& teacher, const TensorView& student, const ArgumentName& name) {
  if (teacher.is(dlpack::kFloat, 32) && student.is(dlpack::kBfloat, 16)) {
    return EmaKind::kBfloat16ToFloat32;
  }
  require_dtype(student, teacher, name);
  if (teacher.is(dlpack::kFloat, 32)) return EmaKind::kFloat32;
  if (teacher.is(dlpack::kFloat, 64)) return EmaKind::kFloat64;
  const std::uint8_t code = teacher.raw.dtype.code;
  if (code != dlpack::kInt && code != dlpack::kUInt && code != dlpack::kBool) {
    throw py::type_error(name.text() + " must belong to a float32 or float64 teacher, but both are " +
                         dtype_name(teacher.raw.dtype) + " instead.");
  }
  return EmaKind::kCopy;
}

void ema_update(py::handle teacher, py::handle student, double decay) {
  const TensorList teachers(teacher, "teacher"), students(student, "student");
  students.require_size(teachers.size(), "teacher");
  std::vector<EmaSpan> spans(static_cast<std::size_t>(teachers.size()));
  for (std::int64_t i = 0; i < teachers.size(); ++i) {
    const TensorView target = view(teachers[i], kCpu, teachers.name(i), Layout::kDense);
    const TensorView source = view(students[i], kCpu, students.name(i), Layout::kDense);
    require_same_layout(source, target, students.name(i));
    const EmaKind kind = ema_kind(target, source, students.name(i));
    spans[static_cast<std::size_t>(i)] = {
        target.data, source.data, kind == EmaKind::kCopy ? target.bytes() : target.size, kind};
  }
  parallel_for_spans(
      teachers.size(), [&](std::int64_t i) { return spans[static_cast<std::size_t>(i)].length; },
      [&](std::int64_t i, std::int64_t begin, std::int64_t end) {
        SD_CALL(ema_update, spans[static_cast<std::size_t>(i)], begin, end, decay);
      });
}

// A number that a caller may hold on the CPU as a float or as a tensor of one element.
std::optional<double> scalar(py::handle object, const char* name) {
  if (object.is_none()) return std::nullopt;
  if (PyFloat_Check(object.ptr())) return PyFloat_AS_DOUBLE(object.ptr());
  if (PyLong_Check(object.ptr())) return PyLong_AsDouble(object.ptr());
  const ArgumentName argument{name};
  const TensorView tensor = view(object.ptr(), kCpu, argument);
  if (tensor.size != 1) {
    throw py::value_error(argument.text() + " must hold one element, but holds " +
                          std::to_string(tensor.size) + " instead.");
  }
  if (tensor.is(dlpack::kFloat, 32)) return static_cast<double>(*tensor.as<float>());
  if (tensor.is(dlpack::kFloat, 64)) return *tensor.as<double>();
  throw py::type_error(argument.text() + " must be float32 or float64, but is " +
                       dtype_name(tensor.raw.dtype) + " instead.");
}

struct AdamLists {
  TensorList params, grads, exp_avgs, exp_avg_sqs;
  std::optional<TensorList> teacher;
  std::optional<TensorList> steps;  // none: all tensors are at `step`
  double step;
};

template <class T>
void adam_ema_typed(const AdamLists& lists, const TensorView& first, const AdamOptions& options,
                    double decay) {
  const auto count = static_cast<std::size_t>(lists.params.size());
  std::vector<AdamSpan<T>> spans(count);
  std::vector<float*> steps(count, nullptr);
  double factors_step = -1.0;  // the tensors are nearly always at one step: compute its powers once
  AdamFactors<T> factors{};
  for (std::size_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const TensorView param = view(lists.params[at], kCpu, lists.params.name(at), Layout::kDense);
    require_dtype(param, first, lists.params.name(at));
    const auto matching = [&](const TensorList& list) {
      const TensorView tensor = view(list[at], kCpu, list.name(at), Layout::kDense);
      require_dtype(tensor, param, list.name(at));
      require_same_layout(tensor, param, list.name(at));
      return tensor.as<T>();
    };
    AdamSpan<T>& span = spans[i];
    span.weight = param.as<T>();
    span.length = param.size;
    const bool has_gradient = lists.grads[at] != Py_None;
    span.gradient = has_gradient ? matching(lists.grads) : nullptr;
    span.exp_avg = matching(lists.exp_avgs);
    span.exp_avg_sq = matching(lists.exp_avg_sqs);
    span.teacher = lists.teacher ? matching(*lists.teacher) : nullptr;
    if (!has_gradient) continue;
    double step = lists.step;
    if (lists.steps) {
      const TensorView counter = view((*lists.steps)[at], kCpu, lists.steps->name(at));
      if (!counter.is(dlpack::kFloat, 32) || counter.size != 1) {
        throw py::type_error(lists.steps->name(at).text() +
                             " must be one float32 element, but is " + dtype_name(counter.raw.dtype) +
                             " " + shape_text(counter) + " instead.");
      }
      steps[i] = counter.as<float>();
      step = static_cast<double>(*steps[i]) + 1.0;
    }
    if (step != factors_step) {
      factors = adam_factors<T>(options, step);
      factors_step = step;
    }
    span.factors = factors;
  }
  // Every argument has been checked: only now is anything written.
  parallel_for_spans(
      lists.params.size(), [&](std::int64_t i) { return spans[static_cast<std::size_t>(i)].length; },
      [&](std::int64_t i, std::int64_t begin, std::int64_t end) {
        SD_CALL(adam_ema, spans[static_cast<std::size_t>(i)], begin, end, decay);
      });
  for (float* step : steps) {
    if (step != nullptr) *step += 1.0F;
  }
}

void adam_ema(py::handle params, py::handle grads, py::handle exp_avgs, py::handle exp_avg_sqs,
              py::handle teacher, py::handle step, double lr, double beta1, double beta2, double eps,
              double weight_decay, bool decoupled, double decay, py::handle grad_scale,
              py::handle found_inf, py::handle clip_factor) {
  const bool has_step_tensors = PyList_Check(step.ptr()) || PyTuple_Check(step.ptr());
  const AdamLists lists{
      TensorList(params, "params"), TensorList(grads, "grads"), TensorList(exp_avgs, "exp_avgs"),
      TensorList(exp_avg_sqs, "exp_avg_sqs"),
      teacher.is_none() ? std::nullopt : std::make_optional(TensorList(teacher, "teacher")),
      has_step_tensors ? std::make_optional(TensorList(step, "step")) : std::nullopt,
      has_step_tensors ? 0.0 : step.cast<double>()};
  const std::int64_t count = lists.params.size();
  lists.grads.require_size(count, "params");
  lists.exp_avgs.require_size(count, "params");
  lists.exp_avg_sqs.require_size(count, "params");
  if (lists.teacher) lists.teacher->require_size(count, "params");
  if (lists.steps) lists.steps->require_size(count, "params");
  const double skip = scalar(found_inf, "found_inf").value_or(0.0);
  const double gradient_factor = scalar(clip_factor, "clip_factor").value_or(1.0) /
                                 scalar(grad_scale, "grad_scale").value_or(1.0);
  if (count == 0 || skip != 0.0) return;
  const AdamOptions options{lr, beta1, beta2, eps, weight_decay, decoupled, gradient_factor};
  const TensorView first = view(lists.params[0], kCpu, lists.params.name(0), Layout::kDense);
  if (first.is(dlpack::kFloat, 32)) {
    adam_ema_typed<float>(lists, first, options, decay);
  } else if (first.is(dlpack::kFloat, 64)) {
    adam_ema_typed<double>(lists, first, options, decay);
  } else {
    throw py::type_error("`params[0]` must be float32 or float64, but is " +
                         dtype_name(first.raw.dtype) + " instead.");
  }
}

struct LossLists {
  TensorList student;
  std::optional<TensorList> teacher;
  TensorList targets, class_weights, gradients;
  std::vector<double> task_weights, distill_weight, temperature, label_smoothing;
  std::int64_t ignore_index;
};

struct LossOutputs {
  TensorView total, cross_entropy, distillation, num_correct, num_valid;
};

template <class T>
LossHead<T> loss_head(const LossLists& lists, std::int64_t task) {
  const auto at = static_cast<std::size_t>(task);
  const TensorView student = view(lists.student[task], kCpu, lists.student.name(task));
  if (student.raw.num_dims != 2 || student.raw.shape[1] < 1) {
    throw py::value_error(lists.student.name(task).text() +
                          " must have the shape [batch, classes] with at least 1 class, but has " +
                          shape_text(student) + " instead.");
  }
  const TensorView expected = view(lists.student[0], kCpu, lists.student.name(0));
  require_dtype(student, expected, lists.student.name(task));
  const TensorView targets = view(lists.targets[task], kCpu, lists.targets.name(task));
  if (!targets.is(dlpack::kInt, 64)) {
    throw py::type_error(lists.targets.name(task).text() + " must be int64 class indices, but is " +
                         dtype_name(targets.raw.dtype) + " instead.");
  }
  if (targets.raw.num_dims != 1 || targets.size != student.raw.shape[0]) {
    throw py::value_error(lists.targets.name(task).text() + " must have the shape [" +
                          std::to_string(student.raw.shape[0]) + "], but has " +
                          shape_text(targets) + " instead.");
  }
  LossHead<T> head{};
  head.student = student.as<T>();
  head.targets = targets.as<std::int64_t>();
  head.num_rows = student.raw.shape[0];
  head.num_classes = student.raw.shape[1];
  if (lists.teacher) {
    const TensorView teacher = view((*lists.teacher)[task], kCpu, lists.teacher->name(task));
    require_dtype(teacher, student, lists.teacher->name(task));
    require_shape(teacher, student, lists.teacher->name(task));
    head.teacher = teacher.as<T>();
  }
  if (lists.class_weights[task] != Py_None) {
    const ArgumentName name = lists.class_weights.name(task);
    const TensorView weights = view(lists.class_weights[task], kCpu, name);
    require_dtype(weights, student, name);
    if (weights.raw.num_dims != 1 || weights.size != head.num_classes) {
      throw py::value_error(name.text() + " must have the shape [" +
                            std::to_string(head.num_classes) + "], but has " + shape_text(weights) +
                            " instead.");
    }
    head.class_weights = weights.as<T>();
    for (std::int64_t c = 0; c < head.num_classes; ++c) {
      const auto weight = static_cast<double>(head.class_weights[c]);
      if (!(weight >= 0.0 && std::isfinite(weight))) {
        throw py::value_error(name.text() + " must hold finite numbers of at least 0, but holds " +
                              std::to_string(weight) + " for class " + std::to_string(c) +
                              " instead.");
      }
    }
  }
  head.gradient = view(lists.gradients[task], kCpu, lists.gradients.name(task)).as<T>();
  head.ignore_index = lists.ignore_index;
  head.task_weight = lists.task_weights[at];
  head.distill_weight = lists.distill_weight[at];
  head.temperature = lists.temperature[at];
  head.label_smoothing = lists.label_smoothing[at];
  const std::int64_t wrong = loss_denominators(head);
  if (wrong >= 0) {
    throw py::value_error(lists.targets.name(task).text() + " must hold class indices in [0, " +
                          std::to_string(head.num_classes) + ") or " +
                          std::to_string(head.ignore_index) + ", but holds " +
                          std::to_string(head.targets[wrong]) + " in row " + std::to_string(wrong) +
                          " instead.");
  }
  return head;
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
void multitask_kd_loss_typed(const LossLists& lists, const LossOutputs& out) {
  std::vector<LossHead<T>> heads;
  for (std::int64_t task = 0; task < lists.student.size(); ++task) {
    heads.push_back(loss_head<T>(lists, task));
  }
  double total = 0.0;
  for (std::size_t task = 0; task < heads.size(); ++task) {
    const LossHead<T>& head = heads[task];
    const LossSums sums = loss_sums(head);
    const double cross_entropy =
        head.label_weight > 0.0 ? sums.cross_entropy / head.label_weight : 0.0;
    const double distillation =
        head.num_valid > 0 ? head.temperature * head.temperature * sums.divergence /
                                 static_cast<double>(head.num_valid)
                           : 0.0;
    out.cross_entropy.as<T>()[task] = static_cast<T>(cross_entropy);
    out.distillation.as<T>()[task] = static_cast<T>(distillation);
    out.num_correct.as<std::int64_t>()[task] = sums.num_correct;
    out.num_valid.as<std::int64_t>()[task] = head.num_valid;
    total += head.task_weight * (cross_entropy + head.distill_weight * distillation);
  }
  *out.total.as<T>() = static_cast<T>(total);
}

void multitask_kd_loss(py::handle student, py::handle teacher, py::handle targets,
                       py::handle class_weights, std::vector<double> task_weights,
                       std::vector<double> distill_weight, std::vector<double> temperature,
                       std::vector<double> label_smoothing, std::int64_t ignore_index,
                       py::handle total, py::handle cross_entropy, py::handle distillation,
                       py::handle num_correct, py::handle num_valid, py::handle gradients) {
  const LossLists lists{
      TensorList(student, "student_logits"),
      teacher.is_none() ? std::nullopt : std::make_optional(TensorList(teacher, "teacher_logits")),
      TensorList(targets, "targets"), TensorList(class_weights, "class_weights"),
      TensorList(gradients, "gradients"), std::move(task_weights), std::move(distill_weight),
      std::move(temperature), std::move(label_smoothing), ignore_index};
  const TensorView first = view(lists.student[0], kCpu, lists.student.name(0));
  const LossOutputs outputs{
      view(total.ptr(), kCpu, {"total"}), view(cross_entropy.ptr(), kCpu, {"cross_entropy"}),
      view(distillation.ptr(), kCpu, {"distillation"}), view(num_correct.ptr(), kCpu, {"num_correct"}),
      view(num_valid.ptr(), kCpu, {"num_valid"})};
  if (first.is(dlpack::kFloat, 32)) {
    multitask_kd_loss_typed<float>(lists, outputs);
  } else if (first.is(dlpack::kFloat, 64)) {
    multitask_kd_loss_typed<double>(lists, outputs);
  } else {
    throw py::type_error("`student_logits[0]` must be float32 or float64, but is " +
                         dtype_name(first.raw.dtype) + " instead.");
  }
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
}
