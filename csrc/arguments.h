// From the arguments of an op to raw pointers, with the checks that both extension modules make.
// Nothing here reads the memory of a tensor, but `scalar`, which reads a number on the CPU.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "adam_ema.h"
#include "ema_update.h"
#include "multitask_kd_loss.h"
#include "tensor_view.h"

namespace smoothdistill {

inline EmaKind ema_kind(const TensorView& teacher, const TensorView& student,
                        const ArgumentName& name) {
  if (teacher.is(dlpack::kFloat, 32)) {
    if (student.is(dlpack::kBfloat, 16)) return EmaKind::kBfloat16ToFloat32;
    if (student.is(dlpack::kFloat, 16)) return EmaKind::kFloat16ToFloat32;
  }
  require_dtype(student, teacher, name);
  if (teacher.is(dlpack::kFloat, 32)) return EmaKind::kFloat32;
  if (teacher.is(dlpack::kFloat, 64)) return EmaKind::kFloat64;
  const std::uint8_t code = teacher.raw.dtype.code;
  if (code != dlpack::kInt && code != dlpack::kUInt && code != dlpack::kBool) {
    throw py::type_error(name.text() +
                         " must belong to a float32 or float64 teacher, but both are " +
                         dtype_name(teacher.raw.dtype) + " instead.");
  }
  return EmaKind::kCopy;
}

inline std::vector<EmaSpan> ema_spans(const TensorList& teachers, const TensorList& students,
                                      const dlpack::Device& device) {
  students.require_size(teachers.size(), "teacher");
  std::vector<EmaSpan> spans(static_cast<std::size_t>(teachers.size()));
  for (std::int64_t i = 0; i < teachers.size(); ++i) {
    const TensorView target = view(teachers[i], device, teachers.name(i), Layout::kDense);
    const TensorView source = view(students[i], device, students.name(i), Layout::kDense);
    require_same_layout(source, target, students.name(i));
    const EmaKind kind = ema_kind(target, source, students.name(i));
    spans[static_cast<std::size_t>(i)] = {
        target.data, source.data, kind == EmaKind::kCopy ? target.bytes() : target.size, kind};
  }
  return spans;
}

// A number that a caller may hold on the CPU as a float or as a tensor of one element.
inline std::optional<double> scalar(py::handle object, const char* name) {
  if (object.is_none()) return std::nullopt;
  if (PyFloat_Check(object.ptr())) return PyFloat_AS_DOUBLE(object.ptr());
  if (PyLong_Check(object.ptr())) return PyLong_AsDouble(object.ptr());
  const ArgumentName argument{name};
  const TensorView tensor = view(object.ptr(), dlpack::kAnyCpu, argument);
  require_one_float(tensor, argument);
  return tensor.is(dlpack::kFloat, 32) ? static_cast<double>(*tensor.as<float>())
                                       : *tensor.as<double>();
}

struct AdamLists {
  TensorList params, grads, exp_avgs, exp_avg_sqs;
  std::optional<TensorList> teacher;
  std::optional<TensorList> steps;  // none: all tensors are at `step`
  double step;
};

inline AdamLists adam_lists(py::handle params, py::handle grads, py::handle exp_avgs,
                            py::handle exp_avg_sqs, py::handle teacher, py::handle step) {
  const bool has_counters = PyList_Check(step.ptr()) || PyTuple_Check(step.ptr());
  AdamLists lists{
      TensorList(params, "params"),
      TensorList(grads, "grads"),
      TensorList(exp_avgs, "exp_avgs"),
      TensorList(exp_avg_sqs, "exp_avg_sqs"),
      teacher.is_none() ? std::nullopt : std::make_optional(TensorList(teacher, "teacher")),
      has_counters ? std::make_optional(TensorList(step, "step")) : std::nullopt,
      has_counters ? 0.0 : step.cast<double>()};
  const std::int64_t count = lists.params.size();
  lists.grads.require_size(count, "params");
  lists.exp_avgs.require_size(count, "params");
  lists.exp_avg_sqs.require_size(count, "params");
  if (lists.teacher) lists.teacher->require_size(count, "params");
  if (lists.steps) lists.steps->require_size(count, "params");
  return lists;
}

// Calls body(T{}) with the type of `tensor`, float or double.
template <class Body>
void with_float_type(const TensorView& tensor, const ArgumentName& argument, Body body,
                     const char* known = "float32 or float64") {
  if (tensor.is(dlpack::kFloat, 32)) {
    body(float{});
  } else if (tensor.is(dlpack::kFloat, 64)) {
    body(double{});
  } else {
    throw py::type_error(argument.text() + " must be " + known + ", but is " +
                         dtype_name(tensor.raw.dtype) + " instead.");
  }
}

// call(T, W): what moments and teacher are computed in, and what weights are stored as.
template <class Call>
void with_adam_types(const TensorView& first, const ArgumentName& name, Call call) {
  if (first.is(dlpack::kBfloat, 16)) return call(float{}, Bfloat16{});
  if (first.is(dlpack::kFloat, 16)) return call(float{}, Float16{});
  with_float_type(
      first, name, [&](auto type) { call(type, type); }, "float32, float64, bfloat16 or float16");
}

// The tensors of every parameter, which have the type and the device of the first; no factors yet.
template <class T, class W>
std::vector<AdamSpan<T, W>> adam_spans(const AdamLists& lists, const TensorView& first) {
  constexpr bool kIsHalf = !std::is_same_v<T, W>;
  std::vector<AdamSpan<T, W>> spans(static_cast<std::size_t>(lists.params.size()));
  for (std::int64_t i = 0; i < lists.params.size(); ++i) {
    const dlpack::Device& device = first.raw.device;
    const TensorView param = view(lists.params[i], device, lists.params.name(i), Layout::kDense);
    require_dtype(param, first, lists.params.name(i));
    const auto matching = [&](const TensorList& list) -> void* {
      const TensorView tensor = view(list[i], device, list.name(i), Layout::kDense);
      if (!kIsHalf || &list == &lists.grads) {
        require_dtype(tensor, param, list.name(i));
      } else if (!tensor.is(dlpack::kFloat, 32)) {
        throw py::type_error(list.name(i).text() + " must be float32 beside " +
                             dtype_name(param.raw.dtype) + " parameters, but is " +
                             dtype_name(tensor.raw.dtype) + " instead.");
      }
      require_same_layout(tensor, param, list.name(i));
      return tensor.data;
    };
    AdamSpan<T, W>& span = spans[static_cast<std::size_t>(i)];
    span.weight = param.as<W>();
    span.length = param.size;
    span.gradient =
        lists.grads[i] == Py_None ? nullptr : static_cast<const W*>(matching(lists.grads));
    span.exp_avg = static_cast<T*>(matching(lists.exp_avgs));
    span.exp_avg_sq = static_cast<T*>(matching(lists.exp_avg_sqs));
    span.teacher = lists.teacher ? static_cast<T*>(matching(*lists.teacher)) : nullptr;
  }
  return spans;
}

// The counter of every parameter that has one and has a gradient, else null.
inline std::vector<float*> step_counters(const AdamLists& lists, const dlpack::Device& device) {
  std::vector<float*> counters(static_cast<std::size_t>(lists.params.size()), nullptr);
  for (std::int64_t i = 0; lists.steps && i < lists.params.size(); ++i) {
    if (lists.grads[i] == Py_None) continue;
    const TensorView counter = view((*lists.steps)[i], device, lists.steps->name(i));
    if (!counter.is(dlpack::kFloat, 32) || counter.size != 1) {
      throw py::type_error(lists.steps->name(i).text() + " must be one float32 element, but is " +
                           dtype_name(counter.raw.dtype) + " " + shape_text(counter) + " instead.");
    }
    counters[static_cast<std::size_t>(i)] = counter.as<float>();
  }
  return counters;
}

struct LossLists {
  TensorList student;
  std::optional<TensorList> teacher;
  TensorList targets, class_weights, gradients;
  std::vector<double> task_weights, distill_weight, temperature, label_smoothing;
  std::int64_t ignore_index;
};

inline LossLists loss_lists(py::handle student, py::handle teacher, py::handle targets,
                            py::handle class_weights, py::handle gradients,
                            std::vector<double> task_weights, std::vector<double> distill_weight,
                            std::vector<double> temperature, std::vector<double> label_smoothing,
                            std::int64_t ignore_index) {
  LossLists lists{
      TensorList(student, "student_logits"),
      teacher.is_none() ? std::nullopt : std::make_optional(TensorList(teacher, "teacher_logits")),
      TensorList(targets, "targets"),
      TensorList(class_weights, "class_weights"),
      TensorList(gradients, "gradients"),
      std::move(task_weights),
      std::move(distill_weight),
      std::move(temperature),
      std::move(label_smoothing),
      ignore_index};
  const std::int64_t count = lists.student.size();
  if (count == 0) {
    throw py::value_error("`student_logits` must hold at least 1 task, but holds 0 instead.");
  }
  if (lists.teacher) lists.teacher->require_size(count, "student_logits");
  lists.targets.require_size(count, "student_logits");
  lists.class_weights.require_size(count, "student_logits");
  lists.gradients.require_size(count, "student_logits");
  const auto require_numbers = [&](const std::vector<double>& numbers, const char* name) {
    if (static_cast<std::int64_t>(numbers.size()) != count) {
      throw py::value_error("`" + std::string(name) + "` must hold one number a task (" +
                            std::to_string(count) + "), but holds " +
                            std::to_string(numbers.size()) + " instead.");
    }
  };
  require_numbers(lists.task_weights, "task_weights");
  require_numbers(lists.distill_weight, "distill_weight");
  require_numbers(lists.temperature, "temperature");
  require_numbers(lists.label_smoothing, "label_smoothing");
  return lists;
}

// One task, of the type and on the device of the first; its denominators are not found yet.
template <class T>
LossHead<T> loss_head(const LossLists& lists, std::int64_t task, const TensorView& first) {
  const dlpack::Device& device = first.raw.device;
  const TensorView student = view(lists.student[task], device, lists.student.name(task));
  if (student.raw.num_dims != 2 || student.raw.shape[1] < 1) {
    throw py::value_error(lists.student.name(task).text() +
                          " must have the shape [batch, classes] with at least 1 class, but has " +
                          shape_text(student) + " instead.");
  }
  require_dtype(student, first, lists.student.name(task));
  const TensorView targets = view(lists.targets[task], device, lists.targets.name(task));
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
    const TensorView teacher = view((*lists.teacher)[task], device, lists.teacher->name(task));
    require_dtype(teacher, student, lists.teacher->name(task));
    require_shape(teacher, student, lists.teacher->name(task));
    head.teacher = teacher.as<T>();
  }
  if (lists.class_weights[task] != Py_None) {
    const ArgumentName name = lists.class_weights.name(task);
    const TensorView weights = view(lists.class_weights[task], device, name);
    require_dtype(weights, student, name);
    if (weights.raw.num_dims != 1 || weights.size != head.num_classes) {
      throw py::value_error(name.text() + " must have the shape [" +
                            std::to_string(head.num_classes) + "], but has " + shape_text(weights) +
                            " instead.");
    }
    head.class_weights = weights.as<T>();
  }
  head.gradient = view(lists.gradients[task], device, lists.gradients.name(task)).as<T>();
  head.ignore_index = lists.ignore_index;
  const auto at = static_cast<std::size_t>(task);
  head.task_weight = lists.task_weights[at];
  head.distill_weight = lists.distill_weight[at];
  head.temperature = lists.temperature[at];
  head.label_smoothing = lists.label_smoothing[at];
  return head;
}

// The output tensors as Python hands them over.
struct LossResults {
  py::handle total, cross_entropy, distillation, num_correct, num_valid;
};

template <class T>
LossOutputs<T> loss_outputs(const LossResults& results, const dlpack::Device& device) {
  return {view(results.total.ptr(), device, {"total"}).as<T>(),
          view(results.cross_entropy.ptr(), device, {"cross_entropy"}).as<T>(),
          view(results.distillation.ptr(), device, {"distillation"}).as<T>(),
          view(results.num_correct.ptr(), device, {"num_correct"}).as<std::int64_t>(),
          view(results.num_valid.ptr(), device, {"num_valid"}).as<std::int64_t>()};
}

}  // namespace smoothdistill
