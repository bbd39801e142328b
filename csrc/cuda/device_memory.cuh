// Memory of the GPU, in the order of a stream: what is freed is reused by what is launched later.
#pragma once

#include <utility>
#include <vector>

#include "common.cuh"

namespace mnist100::cuda {

void* allocate(size_t bytes, cudaStream_t stream);  // throws OutOfMemory
void free_later(void* at, cudaStream_t stream) noexcept;

// Where Buffers get their memory from while a Workspace::Use of it lives: a stack, as they are. It keeps its
// blocks to its end, so that a captured graph can rely on them.
class Workspace {
 public:
  Workspace() = default;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace();

  void* push(size_t bytes);
  void pop(const void* at) noexcept;

  // On this thread, until it ends; then the one before it again.
  class Use {
   public:
    explicit Use(Workspace& workspace);
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use();

   private:
    Workspace* before_;
  };

 private:
  struct Block {
    char* at;
    size_t size, used;
  };
  std::vector<Block> blocks_;
  size_t current_ = 0;  // the blocks after it are empty
};

// Memory that is kept, `size` elements of it, zero at first.
template <class T>
class Kept {
 public:
  Kept() = default;
  explicit Kept(int64_t size);
  Kept(Kept&& other) noexcept : at_(other.at_), size_(other.size_) { other.at_ = nullptr; }
  Kept& operator=(Kept&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(size_, other.size_);
    return *this;
  }
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  ~Kept();
  T* get() const { return at_; }
  int64_t size() const { return size_; }

 private:
  T* at_ = nullptr;
  int64_t size_ = 0;
};

void* allocate_kept(size_t bytes);  // throws OutOfMemory
void free_kept(void* at) noexcept;

template <class T>
Kept<T>::Kept(int64_t size)
    : at_(static_cast<T*>(allocate_kept(static_cast<size_t>(size) * sizeof(T)))), size_(size) {}

template <class T>
Kept<T>::~Kept() {
  free_kept(at_);
}

// `size` elements, their contents undefined.
template <class T>
class Buffer {
 public:
  Buffer(int64_t size, cudaStream_t stream)
      : at_(static_cast<T*>(allocate(static_cast<size_t>(size) * sizeof(T), stream))), stream_(stream) {}
  ~Buffer() { free_later(at_, stream_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() const { return at_; }

 private:
  T* at_;
  cudaStream_t stream_;
};

template <class T>
void zero(T* at, int64_t size, cudaStream_t stream) {
  check(cudaMemsetAsync(at, 0, static_cast<size_t>(size) * sizeof(T), stream), "clearing memory");
}

}  // namespace mnist100::cuda
