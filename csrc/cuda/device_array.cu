#include "device_array.h"

#include <stdexcept>
#include <string>
#include <utility>

#include "device_memory.cuh"

namespace mnist100::cuda {
namespace {

#ifdef MNIST100_EMULATE
constexpr int32_t kDeviceType = dlpack::kCpu;
#else
constexpr int32_t kDeviceType = dlpack::kCuda;
#endif

struct Exported {
  DeviceArray array;
  dlpack::ManagedTensor tensor;
};

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument("x: " + what);
}

bool is_dense(const dlpack::Tensor& t) {
  if (!t.strides) return true;
  int64_t wanted = 1;
  for (int32_t i = t.ndim; i-- > 0;) {
    if (t.shape[i] != 1 && t.strides[i] != wanted) return false;
    wanted *= t.shape[i];
  }
  return true;
}

}  // namespace

int64_t DeviceArray::size() const {
  int64_t size = 1;
  for (int64_t extent : shape) size *= extent;
  return size;
}

DeviceArray empty_array(std::vector<int64_t> shape) {
  DeviceArray array{nullptr, nullptr, std::move(shape)};
  array.data = static_cast<float*>(allocate_kept(static_cast<size_t>(array.size()) * sizeof(float)));
  array.owner = std::shared_ptr<void>(array.data, free_kept);
  return array;
}

void copy_to(const DeviceArray& array, const float* from) {
  const size_t bytes = static_cast<size_t>(array.size()) * sizeof(float);
  if (bytes) check(cudaMemcpy(array.data, from, bytes, cudaMemcpyHostToDevice), "copying to the GPU");
}

void copy_from(const DeviceArray& array, float* to) {
  const size_t bytes = static_cast<size_t>(array.size()) * sizeof(float);
  if (bytes) check(cudaMemcpy(to, array.data, bytes, cudaMemcpyDeviceToHost), "copying from the GPU");
}

dlpack::Device dlpack_device() {
  int number = 0;
  check(cudaGetDevice(&number), "looking for a GPU");
  return {kDeviceType, number};
}

dlpack::ManagedTensor* exported(const DeviceArray& array) {
  Exported* const kept = new Exported{array, {}};
  kept->tensor.tensor = {array.data,
                         dlpack_device(),
                         static_cast<int32_t>(array.shape.size()),
                         {dlpack::kFloat, 32, 1},
                         kept->array.shape.data(),
                         nullptr,
                         0};
  kept->tensor.context = kept;
  kept->tensor.deleter = [](dlpack::ManagedTensor* tensor) {
    delete static_cast<Exported*>(tensor->context);
  };
  return &kept->tensor;
}

DeviceArray imported(dlpack::ManagedTensor* managed) {
  const dlpack::Tensor& t = managed->tensor;
  const dlpack::Device here = dlpack_device();
  require(
      t.device.type == here.type && t.device.number == here.number,
      "got a tensor of another device, wants one of the GPU in use, number " + std::to_string(here.number));
  require(t.type.code == dlpack::kFloat && t.type.bits == 32 && t.type.lanes == 1,
          "got a tensor of another dtype, wants float32");
  require(is_dense(t), "got a tensor with gaps or another order of axes, wants it contiguous");
  // What the producer has launched on the default stream comes first.
  check(cudaStreamSynchronize(nullptr), "waiting for a tensor");
  const std::shared_ptr<void> owner(managed, [](void* at) {
    auto* const tensor = static_cast<dlpack::ManagedTensor*>(at);
    if (tensor->deleter) tensor->deleter(tensor);
  });
  return {owner, reinterpret_cast<float*>(static_cast<char*>(t.data) + t.byte_offset),
          std::vector<int64_t>(t.shape, t.shape + t.ndim)};
}

}  // namespace mnist100::cuda
