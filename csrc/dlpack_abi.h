// The part of the DLPack C ABI (major version 1) that this project reads: how `torch.Tensor` shows
// its memory to C at no cost. Declared here so that neither torch nor DLPack is needed to build.
// Source: the DLPack specification, https://dmlc.github.io/dlpack/latest/c_api.html
#pragma once

#include <cstdint>

namespace smoothdistill::dlpack {

constexpr std::uint32_t kMajorVersion = 1;

enum DeviceType : std::int32_t { kCpu = 1, kCuda = 2 };
enum TypeCode : std::uint8_t {
  kInt = 0,
  kUInt = 1,
  kFloat = 2,
  kBfloat = 4,
  kComplex = 5,
  kBool = 6
};

struct Device {
  std::int32_t type;
  std::int32_t index;
};

// Any device of a type, where a device is asked for.
constexpr Device kAnyCpu{kCpu, -1};
constexpr Device kAnyCuda{kCuda, -1};

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t num_dims;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements
  std::uint64_t byte_offset;
};

// What `type(tensor).__dlpack_c_exchange_api__` points to. The entries that we do not call stand
// here only for their size.
struct ExchangeApi {
  std::uint32_t major_version;
  std::uint32_t minor_version;
  void* previous_api;
  void* managed_tensor_allocator;
  void* managed_tensor_from_py_object;
  void* managed_tensor_to_py_object;
  // Borrows the tensor's own shape and stride arrays: valid while the Python object lives.
  int (*tensor_from_py_object)(void* py_object, Tensor* out);
  int (*current_work_stream)(std::int32_t device_type, std::int32_t device_index, void** stream);
};

constexpr const char* kExchangeAttribute = "__dlpack_c_exchange_api__";
constexpr const char* kExchangeCapsule = "dlpack_exchange_api";

}  // namespace smoothdistill::dlpack
