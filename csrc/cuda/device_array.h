// Arrays of floats in the GPU's memory that other libraries can share. No CUDA in here.
#pragma once

#include <memory>
#include <vector>

#include "dlpack.h"

namespace mnist100::cuda {

struct DeviceArray {
  std::shared_ptr<void> owner;  // of the memory
  float* data;
  std::vector<int64_t> shape;  // row-major and dense
  int64_t size() const;
};

DeviceArray empty_array(std::vector<int64_t> shape);  // throws OutOfMemory
void copy_to(const DeviceArray& array, const float* from);
void copy_from(const DeviceArray& array, float* to);

dlpack::Device dlpack_device();
// A tensor that shares the array's memory, to be freed by its deleter.
dlpack::ManagedTensor* exported(const DeviceArray&);
// Shares the tensor's memory, and calls its deleter at the end. Throws std::invalid_argument, with the tensor
// untouched, unless it holds dense float32 in the memory of the GPU in use.
DeviceArray imported(dlpack::ManagedTensor*);

}  // namespace mnist100::cuda
