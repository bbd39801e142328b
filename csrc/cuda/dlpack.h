// The memory layout of DLPack tensors, as https://dmlc.github.io/dlpack defines it for its version 0.8 and
// before: what a capsule called "dltensor" holds.
#pragma once

#include <stdint.h>

namespace mnist100::dlpack {

struct Device {
  int32_t type, number;
};
constexpr int32_t kCpu = 1, kCuda = 2;

struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};
constexpr uint8_t kFloat = 2;

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType type;
  int64_t* shape;
  int64_t* strides;  // in elements; null if row-major and dense
  uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

}  // namespace mnist100::dlpack
