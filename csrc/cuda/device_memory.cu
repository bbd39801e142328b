#include "device_memory.cuh"

#include <string>

#include "engine.h"

namespace mnist100::cuda {

void check(cudaError_t status, const char* doing) {
  if (status == cudaSuccess) return;
  throw CudaError(std::string("CUDA: ") + cudaGetErrorString(status) + " while " + doing);
}

namespace {

constexpr size_t kAlignment = 256;         // what cudaMalloc gives
constexpr size_t kLeastBlock = 16u << 20;  // bytes that a workspace asks for at a time

thread_local Workspace* workspace = nullptr;  // in use

void* checked(void* at, cudaError_t status, size_t bytes) {
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // else the next launch would report it
    throw OutOfMemory(bytes, " of the GPU's memory");
  }
  check(status, "allocating memory");
  return at;
}

}  // namespace

void* allocate(size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return nullptr;
  if (workspace) return workspace->push(bytes);
  void* at = nullptr;
  const cudaError_t status = cudaMallocAsync(&at, bytes, stream);
  return checked(at, status, bytes);
}

void free_later(void* at, cudaStream_t stream) noexcept {
  if (!at) return;
  if (workspace)
    workspace->pop(at);
  else
    cudaFreeAsync(at, stream);
}

void* allocate_kept(size_t bytes) {
  if (bytes == 0) return nullptr;
  void* at = nullptr;
  const cudaError_t status = cudaMalloc(&at, bytes);
  checked(at, status, bytes);
  // On a stream of its own, an engine would not wait for the default one.
  check(cudaMemset(at, 0, bytes), "clearing memory");
  check(cudaStreamSynchronize(nullptr), "clearing memory");
  return at;
}

void free_kept(void* at) noexcept {
  if (at) cudaFree(at);
}

Workspace::~Workspace() {
  for (const Block& block : blocks_) free_kept(block.at);
}

void* Workspace::push(size_t bytes) {
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  while (current_ < blocks_.size() && blocks_[current_].size - blocks_[current_].used < bytes) ++current_;
  if (current_ == blocks_.size()) {
    const size_t size = bytes > kLeastBlock ? bytes : kLeastBlock;
    blocks_.push_back({static_cast<char*>(allocate_kept(size)), size, 0});
  }
  Block& block = blocks_[current_];
  block.used += bytes;
  return block.at + block.used - bytes;
}

void Workspace::pop(const void* at) noexcept {
  while (blocks_[current_].used == 0) --current_;
  blocks_[current_].used = static_cast<size_t>(static_cast<const char*>(at) - blocks_[current_].at);
}

Workspace::Use::Use(Workspace& other) : before_(workspace) { workspace = &other; }

Workspace::Use::~Use() { workspace = before_; }

std::string device_name() {
  int device = 0;
  cudaDeviceProp properties = {};
  check(cudaGetDevice(&device), "looking for a GPU");
  check(cudaGetDeviceProperties(&properties, device), "looking for a GPU");
  return properties.name;
}

bool available() {
  static const bool found = [] {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  }();
  return found;
}

}  // namespace mnist100::cuda
