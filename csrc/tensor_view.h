// How the two extension modules look at a `torch.Tensor`: through the DLPack C exchange API, with
// the error sentences of every argument check. The kernels below see raw pointers only.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "dlpack_abi.h"

namespace smoothdistill {

namespace py = pybind11;

// Names an argument, or one item of a list argument, in an error sentence.
struct ArgumentName {
  const char* name;
  std::int64_t index = -1;  // -1: not a list

  std::string text() const {
    return "`" + std::string(name) + (index < 0 ? "" : "[" + std::to_string(index) + "]") + "`";
  }
};

inline std::string dtype_name(const dlpack::DataType& dtype) {
  const char* kind = "opaque";
  switch (dtype.code) {
    case dlpack::kInt:
      kind = "int";
      break;
    case dlpack::kUInt:
      kind = "uint";
      break;
    case dlpack::kFloat:
      kind = "float";
      break;
    case dlpack::kBfloat:
      kind = "bfloat";
      break;
    case dlpack::kComplex:
      kind = "complex";
      break;
    case dlpack::kBool:
      return "bool";
    default:
      break;
  }
  return kind + std::to_string(dtype.bits);
}

inline std::string device_name(const dlpack::Device& device) {
  if (device.type == dlpack::kCpu) return "cpu";
  if (device.type == dlpack::kCuda) {
    return device.index < 0 ? "cuda" : "cuda:" + std::to_string(device.index);
  }
  return "DLPack device type " + std::to_string(device.type);
}

// The exchange table of a tensor's type. Tensors and parameters alternate in a call, so the last
// few types are remembered (a look-up costs ten times a view).
inline const dlpack::ExchangeApi& exchange_api(PyTypeObject* type, const ArgumentName& argument) {
  constexpr int kSlots = 4;
  static PyTypeObject* types[kSlots] = {};
  static const dlpack::ExchangeApi* apis[kSlots] = {};
  static int next = 0;
  for (int slot = 0; slot < kSlots; ++slot) {
    if (types[slot] == type) return *apis[slot];
  }
  PyObject* capsule =
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), dlpack::kExchangeAttribute);
  if (capsule == nullptr) {
    PyErr_Clear();
    throw py::type_error(argument.text() + " must be a torch.Tensor (torch >= 2.10), but is " +
                         type->tp_name + " instead.");
  }
  const auto* api = static_cast<const dlpack::ExchangeApi*>(
      PyCapsule_GetPointer(capsule, dlpack::kExchangeCapsule));
  Py_DECREF(capsule);
  if (api == nullptr) throw py::error_already_set();
  if (api->major_version != dlpack::kMajorVersion || api->tensor_from_py_object == nullptr) {
    throw py::type_error(argument.text() + " must speak DLPack 1.x, but speaks version " +
                         std::to_string(api->major_version) + " instead.");
  }
  Py_INCREF(type);  // a remembered type must not be freed and its address used again
  Py_XDECREF(types[next]);
  types[next] = type;
  apis[next] = api;
  next = (next + 1) % kSlots;
  return *api;
}

struct TensorView {
  void* data = nullptr;
  std::int64_t size = 0;
  bool contiguous = true;
  dlpack::Tensor raw{};

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  std::int64_t bytes() const { return size * ((raw.dtype.bits + 7) / 8); }
  bool is(std::uint8_t code, std::uint8_t bits) const {
    return raw.dtype.code == code && raw.dtype.bits == bits;
  }
  bool same_dtype(const TensorView& other) const {
    return is(other.raw.dtype.code, other.raw.dtype.bits);
  }
};

// Whether the elements fill their memory without gaps or overlap, in whatever order of dimensions
// (channels-last weights do). Selects the dimensions by growing stride.
inline bool is_dense(const dlpack::Tensor& raw) {
  std::int64_t expected = 1;
  std::uint64_t used = 0;
  for (int placed = 0; placed < raw.num_dims; ++placed) {
    int next = -1;
    for (int d = 0; d < raw.num_dims && d < 64; ++d) {
      if ((used >> d & 1U) == 0 && (raw.shape[d] == 1 || raw.strides[d] == expected)) next = d;
    }
    if (next < 0) return false;
    used |= std::uint64_t{1} << next;
    expected *= raw.shape[next];
  }
  return true;
}

// Shape, type and device of a tensor that has memory.
inline dlpack::Tensor describe(PyObject* object, const ArgumentName& argument) {
  dlpack::Tensor raw{};
  if (exchange_api(Py_TYPE(object), argument).tensor_from_py_object(object, &raw) != 0) {
    PyErr_Clear();
    throw py::type_error(argument.text() +
                         " must be a dense tensor with memory, but is a meta, sparse or wrapped "
                         "tensor instead.");
  }
  return raw;
}

enum class Layout { kContiguous, kDense };

// A tensor with memory on `device` (index -1: any of its type), contiguous or at least dense.
inline TensorView view(PyObject* object, const dlpack::Device& device, const ArgumentName& argument,
                       Layout layout = Layout::kContiguous) {
  TensorView result;
  result.raw = describe(object, argument);
  const dlpack::Tensor& raw = result.raw;
  if (raw.device.type != device.type || (device.index >= 0 && raw.device.index != device.index)) {
    throw py::value_error(argument.text() + " must be on " + device_name(device) + ", but is on " +
                          device_name(raw.device) + " instead.");
  }
  std::int64_t size = 1;
  for (int d = raw.num_dims - 1; d >= 0; --d) size *= raw.shape[d];
  std::int64_t stride = 1;
  bool contiguous = true;
  for (int d = raw.num_dims - 1; d >= 0 && size > 0; --d) {
    contiguous = contiguous && (raw.shape[d] == 1 || raw.strides[d] == stride);
    stride *= raw.shape[d];
  }
  if (!contiguous && (layout == Layout::kContiguous || !is_dense(raw))) {
    throw py::value_error(argument.text() +
                          " must be contiguous, but is a strided view instead; call "
                          ".contiguous() first.");
  }
  result.contiguous = contiguous;
  if (raw.data == nullptr && size > 0) {
    throw py::type_error(argument.text() +
                         " must be a tensor with memory, but is a fake tensor instead.");
  }
  result.data = static_cast<char*>(raw.data) + raw.byte_offset;
  result.size = size;
  return result;
}

inline void require_dtype(const TensorView& tensor, const TensorView& expected,
                          const ArgumentName& argument) {
  if (!tensor.same_dtype(expected)) {
    throw py::type_error(argument.text() + " must be " + dtype_name(expected.raw.dtype) +
                         ", but is " + dtype_name(tensor.raw.dtype) + " instead.");
  }
}

// One element, float32 or float64.
inline void require_one_float(const TensorView& tensor, const ArgumentName& argument) {
  if (tensor.size != 1) {
    throw py::value_error(argument.text() + " must hold one element, but holds " +
                          std::to_string(tensor.size) + " instead.");
  }
  if (!tensor.is(dlpack::kFloat, 32) && !tensor.is(dlpack::kFloat, 64)) {
    throw py::type_error(argument.text() + " must be float32 or float64, but is " +
                         dtype_name(tensor.raw.dtype) + " instead.");
  }
}

inline std::string shape_text(const TensorView& tensor) {
  std::string text = "[";
  for (int d = 0; d < tensor.raw.num_dims; ++d) {
    text += (d ? ", " : "") + std::to_string(tensor.raw.shape[d]);
  }
  return text + "]";
}

inline void require_shape(const TensorView& tensor, const TensorView& expected,
                          const ArgumentName& argument) {
  bool equal = tensor.raw.num_dims == expected.raw.num_dims;
  for (int d = 0; equal && d < tensor.raw.num_dims; ++d) {
    equal = tensor.raw.shape[d] == expected.raw.shape[d];
  }
  if (!equal) {
    throw py::value_error(argument.text() + " must have the shape " + shape_text(expected) +
                          ", but has " + shape_text(tensor) + " instead.");
  }
}

// The same shape, and the elements in the same order in memory.
inline void require_same_layout(const TensorView& tensor, const TensorView& expected,
                                const ArgumentName& argument) {
  require_shape(tensor, expected, argument);
  if (tensor.contiguous && expected.contiguous) return;
  for (int d = 0; d < tensor.raw.num_dims; ++d) {
    if (tensor.raw.shape[d] != 1 && tensor.raw.strides[d] != expected.raw.strides[d]) {
      throw py::value_error(argument.text() +
                            " must have the memory format of its counterpart, but has other "
                            "strides instead.");
    }
  }
}

// A list or tuple of tensors, read without copying it.
class TensorList {
 public:
  TensorList(py::handle object, const char* name) : name_(name) {
    if (!PyList_Check(object.ptr()) && !PyTuple_Check(object.ptr())) {
      throw py::type_error("`" + std::string(name) +
                           "` must be a list or tuple of tensors, but is " +
                           Py_TYPE(object.ptr())->tp_name + " instead.");
    }
    items_ = PySequence_Fast_ITEMS(object.ptr());
    size_ = PySequence_Fast_GET_SIZE(object.ptr());
  }
  std::int64_t size() const { return size_; }
  PyObject* operator[](std::int64_t i) const { return items_[i]; }
  ArgumentName name(std::int64_t i) const { return {name_, i}; }

  void require_size(std::int64_t expected, const char* of) const {
    if (size_ != expected) {
      throw py::value_error("`" + std::string(name_) + "` must hold as many tensors as `" + of +
                            "` (" + std::to_string(expected) + "), but holds " +
                            std::to_string(size_) + " instead.");
    }
  }

 private:
  const char* name_;
  PyObject** items_;
  std::int64_t size_;
};

}  // namespace smoothdistill
