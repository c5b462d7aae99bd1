// What the calls of whole layers share: views of float32 tensors, pieces of work for threads, and
// the way of a batch into columns and back (NOTE [Batch in columns]).
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "columns.h"
#include "parallel.h"
#include "tensor_view.h"

namespace smoothdistill {

// Multiply-adds below which a second thread is not worth waking.
constexpr std::int64_t kProductGrain = 1 << 20;

// parallel_for over `size` pieces of `work` multiply-adds each.
template <class Body>
void parallel_pieces(std::int64_t size, std::int64_t work, Body body) {
  parallel_for(size, std::max<std::int64_t>(1, kProductGrain / std::max<std::int64_t>(1, work)),
               body);
}

// A contiguous tensor of 32-bit numbers of the given kind and shape; -1 stands for any size.
inline TensorView typed_view(py::handle tensor, const char* name, dlpack::TypeCode kind,
                             const char* kind_name, std::initializer_list<std::int64_t> shape) {
  const ArgumentName argument{name};
  const TensorView result = view(tensor.ptr(), dlpack::kAnyCpu, argument);
  if (!result.is(kind, 32)) {
    throw py::type_error(argument.text() + " must be " + kind_name + ", but is " +
                         dtype_name(result.raw.dtype) + " instead.");
  }
  bool fits = result.raw.num_dims == static_cast<int>(shape.size());
  std::string wanted;
  int d = 0;
  for (const std::int64_t size : shape) {
    fits = fits && (size < 0 || result.raw.shape[d] == size);
    wanted += (d ? ", " : "") + (size < 0 ? std::string("any") : std::to_string(size));
    ++d;
  }
  if (!fits) {
    throw py::value_error(argument.text() + " must have the shape [" + wanted +
                          "], but has the shape " + shape_text(result) + " instead.");
  }
  return result;
}

inline TensorView float_view(py::handle tensor, const char* name,
                             std::initializer_list<std::int64_t> shape) {
  return typed_view(tensor, name, dlpack::kFloat, "float32", shape);
}

// Memory for pairs of bfloat16 numbers.
inline TensorView pair_view(py::handle tensor, const char* name,
                            std::initializer_list<std::int64_t> shape) {
  return typed_view(tensor, name, dlpack::kInt, "int32", shape);
}

inline void require_elements(const TensorView& tensor, const char* name, std::int64_t least) {
  if (tensor.size < least) {
    throw py::value_error(ArgumentName{name}.text() + " must hold at least " +
                          std::to_string(least) + " elements, but holds " +
                          std::to_string(tensor.size) + " instead.");
  }
}

inline std::uint8_t* choice_view(py::handle tensor, std::int64_t size) {
  const TensorView result = view(tensor.ptr(), dlpack::kAnyCpu, {"choice"});
  if (!result.is(dlpack::kUInt, 8)) {
    throw py::type_error("`choice` must be uint8, but is " + dtype_name(result.raw.dtype) +
                         " instead.");
  }
  if (result.size != size) {
    throw py::value_error("`choice` must hold " + std::to_string(size) + " elements, but holds " +
                          std::to_string(result.size) + " instead.");
  }
  return result.as<std::uint8_t>();
}

inline void require_columns(std::int64_t columns) {
  if (columns != 1 && (columns < 1 || columns % kColumnGranule != 0)) {
    throw py::value_error("`columns` must be 1 or a multiple of 16, but is " +
                          std::to_string(columns) + " instead.");
  }
}

// The backward kernels have no path for one window alone.
inline void require_many_columns(std::int64_t columns) {
  if (columns < 1 || columns % kColumnGranule != 0) {
    throw py::value_error("`columns` must be a multiple of 16, but is " + std::to_string(columns) +
                          " instead.");
  }
}

// Width and number of the blocks of a batch: as few blocks of at most 64 columns as possible, and
// no wider than needed.
inline BatchInColumns plan_columns(std::int64_t batch) {
  constexpr std::int64_t kMost = 64;
  if (batch <= 1) return {batch, 1};
  const std::int64_t blocks = (batch + kMost - 1) / kMost;
  const std::int64_t columns = (batch + blocks - 1) / blocks;
  return {blocks, (columns + kColumnGranule - 1) / kColumnGranule * kColumnGranule};
}

// Memory for the time of a call. Not zeroed.
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t size) : data_(new T[static_cast<std::size_t>(size)]) {}
  T* get() const { return data_.get(); }

 private:
  std::unique_ptr<T[]> data_;
};

// rows [batch, ...] to columns [blocks, ..., columns], whose dimensions in between hold as many.
inline void to_columns_of(py::handle rows, py::handle columns) {
  const TensorView in = view(rows.ptr(), dlpack::kAnyCpu, {"rows"});
  const TensorView out = view(columns.ptr(), dlpack::kAnyCpu, {"columns"});
  if (!in.is(dlpack::kFloat, 32) || !out.is(dlpack::kFloat, 32)) {
    throw py::type_error("`rows` must be float32 like `columns`, but is " +
                         dtype_name(in.raw.dtype) + " instead.");
  }
  const std::int64_t batch = in.raw.shape[0], blocks = out.raw.shape[0];
  const std::int64_t width = out.raw.shape[out.raw.num_dims - 1];
  const std::int64_t features = batch > 0 ? in.size / batch : 0;
  if (batch < 1 || out.size != blocks * features * width || batch > blocks * width) {
    throw py::value_error("`rows` must fit into `columns` " + shape_text(out) +
                          ", but has the shape " + shape_text(in) + " instead.");
  }
  for (std::int64_t block = 0; block < blocks; ++block) {
    to_columns(in.as<float>(), batch, features, width, block, out.as<float>());
  }
}

inline void from_columns_of(py::handle columns, py::handle rows) {
  const TensorView in = view(columns.ptr(), dlpack::kAnyCpu, {"columns"});
  const TensorView out = view(rows.ptr(), dlpack::kAnyCpu, {"rows"});
  if (!in.is(dlpack::kFloat, 32) || !out.is(dlpack::kFloat, 32)) {
    throw py::type_error("`rows` must be float32 like `columns`, but is " +
                         dtype_name(out.raw.dtype) + " instead.");
  }
  const std::int64_t batch = out.raw.shape[0], blocks = in.raw.shape[0];
  const std::int64_t width = in.raw.shape[in.raw.num_dims - 1];
  const std::int64_t features = batch > 0 ? out.size / batch : 0;
  if (batch < 1 || in.size != blocks * features * width || batch > blocks * width) {
    throw py::value_error("`rows` must fit `columns` " + shape_text(in) + ", but has the shape " +
                          shape_text(out) + " instead.");
  }
  for (std::int64_t block = 0; block < blocks; ++block) {
    from_columns(in.as<float>(), batch, features, width, block, out.as<float>());
  }
}

}  // namespace smoothdistill
