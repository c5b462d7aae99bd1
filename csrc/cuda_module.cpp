// smoothdistill._cuda: argument checks, then the CUDA kernels on the current stream. No op
// allocates or waits, so that a CUDA graph can capture it (after one call outside, which loads the
// kernels). Importing calls nothing of CUDA, and so works without a driver.
#include <cuda_runtime_api.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <initializer_list>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "adam_ema.h"
#include "arguments.h"
#include "conv_pool.h"
#include "cuda/multi_tensor.h"
#include "ema_update.h"
#include "multitask_kd_loss.h"
#include "tensor_view.h"

namespace smoothdistill {
namespace {

using dlpack::kAnyCpu;

#if defined(SMOOTHDISTILL_CUDA_ON_CPU)  // tests/cuda_on_cpu: memory of the CPU is the device's
constexpr dlpack::Device kAnyCuda = kAnyCpu;
bool is_on_cpu(const dlpack::Device&) { return false; }
#else
using dlpack::kAnyCuda;
bool is_on_cpu(const dlpack::Device& device) { return device.type == dlpack::kCpu; }
#endif

constexpr dlpack::DataType kFloat32{dlpack::kFloat, 32, 1};
constexpr dlpack::DataType kUint8{dlpack::kUInt, 8, 1};

void check(int status, const char* op_name) {
  if (status == cudaSuccess) return;
  throw std::runtime_error("`" + std::string(op_name) +
                           "` must be launched on a working CUDA device, but CUDA reports '" +
                           cudaGetErrorString(static_cast<cudaError_t>(status)) + "' instead.");
}

// Makes a device current while it lives.
class DeviceGuard {
 public:
  DeviceGuard(int device, const char* op_name) {
    check(cudaGetDevice(&before_), op_name);
    if (before_ == device) return;
    check(cudaSetDevice(device), op_name);
    changed_ = true;
  }
  ~DeviceGuard() {
    if (changed_) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

// The stream on which PyTorch works, on the device of `tensor`.
void* current_stream(PyObject* object, const TensorView& tensor, const ArgumentName& argument) {
  void* stream = nullptr;
  const dlpack::Device& device = tensor.raw.device;
  const dlpack::ExchangeApi& api = exchange_api(Py_TYPE(object), argument);
  if (api.current_work_stream(device.type, device.index, &stream) != 0) {
    throw py::error_already_set();
  }
  return stream;
}

// Launches a kernel by launch(stream) for `tensors`, whose first is `first`.
template <class Launch>
void launch_for(const TensorList& tensors, const TensorView& first, const char* op_name,
                Launch launch) {
  const DeviceGuard guard(first.raw.device.index, op_name);
  check(launch(current_stream(tensors[0], first, tensors.name(0))), op_name);
}

// A number that lies on the device, or is known on the CPU.
cuda::DeviceNumber device_number(py::handle object, const char* name, double without,
                                 const dlpack::Device& device) {
  cuda::DeviceNumber number{nullptr, nullptr, without};
  const bool is_python =
      object.is_none() || PyFloat_Check(object.ptr()) || PyLong_Check(object.ptr());
  const ArgumentName argument{name};
  if (is_python || is_on_cpu(describe(object.ptr(), argument).device)) {
    number.value = scalar(object, name).value_or(without);
    return number;
  }
  const TensorView tensor = view(object.ptr(), device, argument);
  require_one_float(tensor, argument);
  if (tensor.is(dlpack::kFloat, 32)) {
    number.float32 = tensor.as<float>();
  } else {
    number.float64 = tensor.as<double>();
  }
  return number;
}

void ema_update(py::handle teacher, py::handle student, py::handle decay) {
  const TensorList teachers(teacher, "teacher"), students(student, "student");
  students.require_size(teachers.size(), "teacher");
  if (teachers.size() == 0) return;
  const TensorView first = view(teachers[0], kAnyCuda, teachers.name(0), Layout::kDense);
  const std::vector<EmaSpan> spans = ema_spans(teachers, students, first.raw.device);
  const cuda::DeviceNumber number = device_number(decay, "decay", 1.0, first.raw.device);
  launch_for(teachers, first, "ema_update_", [&](void* stream) {
    return cuda::ema_update(spans.data(), teachers.size(), number, stream);
  });
}

unsigned* device_ticket(py::handle object, const dlpack::Device& device) {
  if (object.is_none()) return nullptr;
  const ArgumentName name{"ticket"};
  const TensorView tensor = view(object.ptr(), device, name);
  if (!tensor.is(dlpack::kInt, 32) || tensor.size != 1) {
    throw py::type_error(name.text() + " must be one int32 element, but is " +
                         dtype_name(tensor.raw.dtype) + " " + shape_text(tensor) + " instead.");
  }
  return tensor.as<unsigned>();
}

// Counters on the device are read and counted up there. Those on the CPU are read now and counted
// up after the launch, which needs to know now that the step is not skipped.
template <class T, class W>
void adam_ema_typed(const AdamLists& lists, const TensorView& first,
                    const cuda::AdamSettings& settings) {
  const std::vector<AdamSpan<T, W>> spans = adam_spans<T, W>(lists, first);
  const bool counts_on_cpu =
      lists.steps && is_on_cpu(describe((*lists.steps)[0], lists.steps->name(0)).device);
  const cuda::DeviceNumber& found_inf = settings.found_inf;
  if (counts_on_cpu && (found_inf.float32 != nullptr || found_inf.float64 != nullptr)) {
    throw py::value_error(lists.steps->name(0).text() +
                          " must be on the device of `found_inf`, but is on cpu instead.");
  }
  const std::vector<float*> counters =
      step_counters(lists, counts_on_cpu ? kAnyCpu : first.raw.device);
  std::vector<cuda::AdamStep> steps(spans.size());
  for (std::size_t i = 0; i < spans.size(); ++i) {
    if (counts_on_cpu && counters[i] != nullptr) {
      steps[i] = {nullptr, static_cast<double>(*counters[i]) + 1.0};
    } else {
      steps[i] = {counters[i], lists.step};
    }
  }
  launch_for(lists.params, first, "adam_ema_", [&](void* stream) {
    return cuda::adam_ema(spans.data(), steps.data(), lists.params.size(), settings, stream);
  });
  if (!counts_on_cpu || found_inf.value != 0.0) return;
  for (float* counter : counters) {
    if (counter != nullptr) *counter += 1.0F;
  }
}

void adam_ema(py::handle params, py::handle grads, py::handle exp_avgs, py::handle exp_avg_sqs,
              py::handle teacher, py::handle step, py::handle lr, double beta1, double beta2,
              double eps, double weight_decay, bool decoupled, py::handle decay,
              py::handle grad_scale, py::handle found_inf, py::handle clip_factor,
              py::handle ticket) {
  const AdamLists lists = adam_lists(params, grads, exp_avgs, exp_avg_sqs, teacher, step);
  if (lists.params.size() == 0) return;
  const TensorView first = view(lists.params[0], kAnyCuda, lists.params.name(0), Layout::kDense);
  const dlpack::Device& device = first.raw.device;
  const cuda::AdamSettings settings{{0.0, beta1, beta2, eps, weight_decay, decoupled, 1.0},
                                    device_number(lr, "lr", 0.0, device),
                                    device_number(decay, "decay", 1.0, device),
                                    device_number(grad_scale, "grad_scale", 1.0, device),
                                    device_number(clip_factor, "clip_factor", 1.0, device),
                                    device_number(found_inf, "found_inf", 0.0, device),
                                    device_ticket(ticket, device)};
  with_adam_types(first, lists.params.name(0), [&](auto type, auto stored) {
    adam_ema_typed<decltype(type), decltype(stored)>(lists, first, settings);
  });
}

// Where each of the numbers lies on the device; null: it is known on the CPU.
std::vector<const float*> device_floats(py::handle objects, const char* name, std::int64_t count,
                                        const dlpack::Device& device) {
  std::vector<const float*> found(static_cast<std::size_t>(count), nullptr);
  if (objects.is_none()) return found;
  const TensorList tensors(objects, name);
  tensors.require_size(count, "student_logits");
  for (std::int64_t i = 0; i < count; ++i) {
    if (tensors[i] == Py_None) continue;
    const TensorView tensor = view(tensors[i], device, tensors.name(i));
    require_one_float(tensor, tensors.name(i));
    if (!tensor.is(dlpack::kFloat, 32)) {
      throw py::type_error(tensors.name(i).text() + " must be float32, but is " +
                           dtype_name(tensor.raw.dtype) + " instead.");
    }
    found[static_cast<std::size_t>(i)] = tensor.as<float>();
  }
  return found;
}

void multitask_kd_loss(py::handle student, py::handle teacher, py::handle targets,
                       py::handle class_weights, std::vector<double> task_weights,
                       std::vector<double> distill_weight, std::vector<double> temperature,
                       std::vector<double> label_smoothing, std::int64_t ignore_index,
                       py::handle total, py::handle cross_entropy, py::handle distillation,
                       py::handle num_correct, py::handle num_valid, py::handle gradients,
                       py::handle workspace, py::handle distill_weight_at,
                       py::handle temperature_at) {
  const LossLists lists = loss_lists(
      student, teacher, targets, class_weights, gradients, std::move(task_weights),
      std::move(distill_weight), std::move(temperature), std::move(label_smoothing), ignore_index);
  const std::int64_t num_tasks = lists.student.size();
  const TensorView first = view(lists.student[0], kAnyCuda, lists.student.name(0));
  const dlpack::Device& device = first.raw.device;
  const TensorView scratch = view(workspace.ptr(), device, {"workspace"});
  if (scratch.bytes() < cuda::loss_workspace_bytes(num_tasks)) {
    throw py::value_error("`workspace` must hold at least " +
                          std::to_string(cuda::loss_workspace_bytes(num_tasks)) +
                          " bytes, but holds " + std::to_string(scratch.bytes()) + " instead.");
  }
  const LossResults results{total, cross_entropy, distillation, num_correct, num_valid};
  const auto distill_weights =
      device_floats(distill_weight_at, "distill_weight", num_tasks, device);
  const auto temperatures = device_floats(temperature_at, "temperature", num_tasks, device);
  with_float_type(first, lists.student.name(0), [&](auto type) {
    using T = decltype(type);
    std::vector<LossHead<T>> heads;
    for (std::int64_t task = 0; task < num_tasks; ++task) {
      heads.push_back(loss_head<T>(lists, task, first));
      heads.back().distill_weight_at = distill_weights[static_cast<std::size_t>(task)];
      heads.back().temperature_at = temperatures[static_cast<std::size_t>(task)];
    }
    const LossOutputs<T> outputs = loss_outputs<T>(results, device);
    launch_for(lists.student, first, "multitask_kd_loss", [&](void* stream) {
      return cuda::multitask_kd_loss(heads.data(), num_tasks, outputs, scratch.data, stream);
    });
  });
}

// A float32 tensor of this shape on the device of the signals.
TensorView conv_pool_tensor(py::handle object, const char* name, const dlpack::Device& device,
                            std::initializer_list<std::int64_t> shape,
                            const dlpack::DataType& dtype = kFloat32) {
  const ArgumentName argument{name};
  const TensorView tensor = view(object.ptr(), device, argument);
  if (!tensor.is(dtype.code, dtype.bits)) {
    throw py::type_error(argument.text() + " must be " + dtype_name(dtype) + ", but is " +
                         dtype_name(tensor.raw.dtype) + " instead.");
  }
  bool equal = tensor.raw.num_dims == static_cast<int>(shape.size());
  std::string text;
  int dimension = 0;
  for (const std::int64_t length : shape) {
    equal = equal && tensor.raw.shape[dimension] == length;
    text += (dimension++ ? ", " : "") + std::to_string(length);
  }
  if (!equal) {
    throw py::value_error(argument.text() + " must have the shape [" + text + "], but has " +
                          shape_text(tensor) + " instead.");
  }
  return tensor;
}

// What the signals and the weight, three dimensions each, say about all tensors of the op.
ConvPoolShape conv_pool_shape(const TensorView& signals, const TensorView& weight) {
  const auto require_dims = [](const TensorView& tensor, const char* name, const char* dims) {
    if (tensor.raw.num_dims == 3) return;
    throw py::value_error("`" + std::string(name) + "` must have the shape " + dims + ", but has " +
                          shape_text(tensor) + " instead.");
  };
  require_dims(signals, "signals", "[batch, in_channels, time]");
  require_dims(weight, "weight", "[out_channels, in_channels, kernel]");
  const std::int64_t *of_signals = signals.raw.shape, *of_weight = weight.raw.shape;
  const ConvPoolShape shape{of_signals[0], of_signals[1], of_signals[2],
                            of_weight[0],  of_weight[2],  (of_signals[2] - of_weight[2] + 1) / 2};
  if (shape.kernel < 1 || shape.pooled < 1) {
    throw py::value_error("`weight` must hold at least 1 sample and fewer than `signals` (" +
                          std::to_string(shape.time) + "), but holds " +
                          std::to_string(shape.kernel) + " instead.");
  }
  return shape;
}

void conv_pool(py::handle signals, py::handle weight, py::handle bias, py::handle pooled,
               py::handle choice) {
  const TensorView input = view(signals.ptr(), kAnyCuda, {"signals"});
  const dlpack::Device& device = input.raw.device;
  const ConvPoolShape s = conv_pool_shape(input, view(weight.ptr(), device, {"weight"}));
  const auto y_shape = {s.batch, s.out_channels, s.pooled};
  const TensorView x =
      conv_pool_tensor(signals, "signals", device, {s.batch, s.in_channels, s.time});
  const TensorView w =
      conv_pool_tensor(weight, "weight", device, {s.out_channels, s.in_channels, s.kernel});
  const TensorView b = conv_pool_tensor(bias, "bias", device, {s.out_channels});
  const TensorView y = conv_pool_tensor(pooled, "pooled", device, y_shape);
  std::uint8_t* places = nullptr;
  if (!choice.is_none()) {
    places = conv_pool_tensor(choice, "choice", device, y_shape, kUint8).as<std::uint8_t>();
  }
  const DeviceGuard guard(device.index, "conv_pool");
  check(cuda::conv_pool(s, x.as<float>(), w.as<float>(), b.as<float>(), y.as<float>(), places,
                        current_stream(signals.ptr(), x, {"signals"})),
        "conv_pool");
}

void conv_pool_backward(py::handle grad, py::handle choice, py::handle signals, py::handle weight,
                        py::handle grad_signals, py::handle grad_weight, py::handle grad_bias) {
  const TensorView input = view(signals.ptr(), kAnyCuda, {"signals"});
  const dlpack::Device& device = input.raw.device;
  const ConvPoolShape s = conv_pool_shape(input, view(weight.ptr(), device, {"weight"}));
  const auto x_shape = {s.batch, s.in_channels, s.time};
  const auto w_shape = {s.out_channels, s.in_channels, s.kernel};
  const auto y_shape = {s.batch, s.out_channels, s.pooled};
  const TensorView dy = conv_pool_tensor(grad, "grad", device, y_shape);
  const TensorView places = conv_pool_tensor(choice, "choice", device, y_shape, kUint8);
  const TensorView x = conv_pool_tensor(signals, "signals", device, x_shape);
  const TensorView w = conv_pool_tensor(weight, "weight", device, w_shape);
  const TensorView dw = conv_pool_tensor(grad_weight, "grad_weight", device, w_shape);
  const TensorView db = conv_pool_tensor(grad_bias, "grad_bias", device, {s.out_channels});
  float* dx = nullptr;
  if (!grad_signals.is_none()) {
    dx = conv_pool_tensor(grad_signals, "grad_signals", device, x_shape).as<float>();
  }
  const DeviceGuard guard(device.index, "conv_pool_backward");
  check(cuda::conv_pool_backward(s, dy.as<float>(), places.as<std::uint8_t>(), x.as<float>(),
                                 w.as<float>(), dx, dw.as<float>(), db.as<float>(),
                                 current_stream(signals.ptr(), x, {"signals"})),
        "conv_pool_backward");
}

// For each launch that tensors of these lengths take, what its blocks work on: (number of the
// tensor, first element, one past the last). Runs the code of the kernels on the host, for tests.
std::vector<std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>>> chunk_tables(
    const std::vector<std::int64_t>& lengths) {
  std::vector<std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>>> launches;
  const auto tensor = [&](std::int64_t i) {
    // The address, which nobody reads, tells the tensor's number.
    return EmaSpan{reinterpret_cast<void*>(i), nullptr, lengths[static_cast<std::size_t>(i)],
                   EmaKind::kFloat32};
  };
  cuda::for_each_table<EmaSpan>(
      static_cast<std::int64_t>(lengths.size()), tensor,
      [&](const cuda::ChunkTable<EmaSpan>& table) {
        auto& blocks = launches.emplace_back();
        for (std::int64_t number = 0; number < table.num_chunks(); ++number) {
          const cuda::Chunk chunk = cuda::find_chunk(table, number);
          blocks.emplace_back(reinterpret_cast<std::int64_t>(table.tensors[chunk.slot].teacher),
                              chunk.begin, chunk.end);
        }
        return 0;
      });
  return launches;
}

// None where CUDA works, else what it reports.
py::object device_error() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) return py::none();
  return py::str(cudaGetErrorString(status));
}

}  // namespace
}  // namespace smoothdistill

PYBIND11_MODULE(_cuda, m) {
  namespace sd = smoothdistill;
  m.doc() = "CUDA kernels of smoothdistill; call them through smoothdistill.ops.";
  m.def("device_error", &sd::device_error, "None where CUDA works, else what it reports.");
  m.def("chunk_tables", &sd::chunk_tables, "How tensors of these lengths are cut, by launch.");
  m.def("loss_workspace_bytes", &sd::cuda::loss_workspace_bytes);
  m.def("ema_update_", &sd::ema_update);
  m.def("adam_ema_", &sd::adam_ema);
  m.def("multitask_kd_loss", &sd::multitask_kd_loss);
  m.def("conv_pool", &sd::conv_pool);
  m.def("conv_pool_backward", &sd::conv_pool_backward);
}
