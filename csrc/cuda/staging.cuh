// Arrays of the CPU's memory for the length of one call: copied to the GPU, and what was computed copied
// back.
#pragma once

#include <string>

#include "device_memory.cuh"

namespace mnist100::cuda {

class Staging {
 public:
  Staging() = default;
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging() {
    for (int i = 0; i < count_; ++i) free_later(copies_[i].device, stream);
  }

  // Null stays null in all three.
  template <class T>
  const T* in(const T* host, int64_t size) {
    return filled(const_cast<T*>(host), size, false);
  }
  template <class T>
  T* in_out(T* host, int64_t size) {
    return filled(host, size, true);
  }
  template <class T>
  T* out(T* host, int64_t size) {
    return host ? static_cast<T*>(add(host, checked(size) * sizeof(T), true)) : nullptr;
  }

  // For what a kernel writes to some elements of.
  template <class T>
  T* zeros(T* host, int64_t size) {
    T* const device = out(host, size);
    zero(device, size, stream);
    return device;
  }

  // Waits for the kernels and copies what they wrote.
  void finish() {
    for (int i = 0; i < count_; ++i)
      if (copies_[i].back)
        check(cudaMemcpyAsync(copies_[i].host, copies_[i].device, copies_[i].bytes, cudaMemcpyDeviceToHost,
                              stream),
              "copying from the GPU");
    check(cudaStreamSynchronize(stream), "running a kernel");
  }

  cudaStream_t stream = nullptr;  // the default one

 private:
  struct Copy {
    void *host, *device;
    size_t bytes;
    bool back;
  };
  static constexpr int kMost = 16;  // arguments of an operation

  static size_t checked(int64_t size) {
    if (size <= INT32_MAX) return static_cast<size_t>(size);
    throw CudaError("CUDA: an array has " + std::to_string(size) + " elements, wants at most " +
                    std::to_string(INT32_MAX));
  }

  template <class T>
  T* filled(T* host, int64_t size, bool back) {
    if (!host) return nullptr;
    const size_t bytes = checked(size) * sizeof(T);
    void* device = add(const_cast<std::remove_const_t<T>*>(host), bytes, back);
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "copying to the GPU");
    return static_cast<T*>(device);
  }

  void* add(void* host, size_t bytes, bool back) {
    void* device = allocate(bytes, stream);
    copies_[count_++] = {host, device, bytes, back};
    return device;
  }

  Copy copies_[kMost];
  int count_ = 0;
};

}  // namespace mnist100::cuda
