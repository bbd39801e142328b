// Runs CUDA kernels on the CPU, so that their results can be tested where there is no GPU: the threads of a
// block are fibers that change places at barriers and shuffles, and blocks run one after another. It says
// nothing about speed, races between barriers, or memory alignment.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // one block at a time

struct dim3 {
  unsigned x, y, z;
  explicit dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed };
using cudaStream_t = void*;
using cudaGraph_t = std::vector<std::function<void()>>*;  // what to do, in its order
using cudaGraphExec_t = cudaGraph_t;

namespace mnist100::cuda::emulation {

constexpr size_t kStackBytes = 65536;
constexpr unsigned kLanes = 32;

enum class Waiting { kNo, kWarp, kBlock, kDone };

// Lives on after its thread has ended, as another one.
struct Fiber {
  jmp_buf
      place;  // a jump is some twenty times as fast as swapcontext, which asks the kernel for signal masks
  std::unique_ptr<char[]> stack;
  Waiting waiting = Waiting::kDone;
  dim3 index;
  uint64_t shown = 0;   // what the lane offers in a shuffle
  uint32_t a[4], b[2];  // and in a product of tensor cores
  const uint32_t* row = nullptr;
};

struct Machine {
  std::mutex one_launch;
  std::vector<Fiber> fibers;
  Fiber* current = nullptr;
  jmp_buf scheduler;
  dim3 block, grid, size;
  const std::function<void()>* kernel = nullptr;
  std::unique_ptr<std::vector<std::function<void()>>> graph;  // the one that is captured
};
inline Machine the_machine;
inline Machine& machine() { return the_machine; }

// Does `work`, or notes it down while a graph is captured.
void submit(std::function<void()> work);
// Calls `kernel` as every thread of every block.
void run(dim3 grid, dim3 block, const std::function<void()>& kernel);
// Lets the others go on until all of the warp, or of the block, wait too.
void wait(Waiting for_whom);

template <class T>
T shuffle_xor(T value, int mask) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  Machine& m = machine();
  memcpy(&m.current->shown, &value, sizeof value);
  wait(Waiting::kWarp);
  const size_t self = static_cast<size_t>(m.current - m.fibers.data());
  T other;
  memcpy(&other, &m.fibers[self ^ static_cast<size_t>(mask)].shown, sizeof other);
  wait(Waiting::kWarp);
  return other;
}

// Of mma.cuh.
inline void load_fragments(const uint32_t* row, uint32_t (&words)[4]) {
  Machine& m = machine();
  m.current->row = row;
  wait(Waiting::kWarp);
  const size_t self = static_cast<size_t>(m.current - m.fibers.data()), lane = self % kLanes;
  const Fiber* const warp = m.fibers.data() + self - lane;
  for (size_t i = 0; i < 4; ++i) words[i] = warp[8 * i + lane / 4].row[lane % 4];
  wait(Waiting::kWarp);
}

// What mma.cuh says of fragments, word by word. Sums are rounded once.
template <class Format>
void mma(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4]) {
  Machine& m = machine();
  memcpy(m.current->a, a, sizeof a);
  memcpy(m.current->b, b, sizeof b);
  wait(Waiting::kWarp);
  const size_t self = static_cast<size_t>(m.current - m.fibers.data()), lane = self % kLanes;
  const Fiber* const warp = m.fibers.data() + self - lane;
  for (size_t i = 0; i < 4; ++i) {
    const size_t row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    double sum = static_cast<double>(c[i]);
    for (size_t word = 0; word < 8; ++word)
      sum += Format::product(warp[row % 8 * 4 + word % 4].a[row / 8 + word / 4 * 2],
                             warp[column * 4 + word % 4].b[word / 4]);
    c[i] = static_cast<float>(sum);
  }
  wait(Waiting::kWarp);
}

}  // namespace mnist100::cuda::emulation

#define threadIdx (mnist100::cuda::emulation::machine().current->index)
#define blockIdx (mnist100::cuda::emulation::machine().block)
#define blockDim (mnist100::cuda::emulation::machine().size)
#define gridDim (mnist100::cuda::emulation::machine().grid)

inline void __syncthreads() { mnist100::cuda::emulation::wait(mnist100::cuda::emulation::Waiting::kBlock); }

template <class T>
T atomicAdd(T* at, T value) {  // blocks run one after another, and a block's threads on one
  const T before = *at;
  *at += value;
  return before;
}

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return mnist100::cuda::emulation::shuffle_xor(value, mask);
}

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "out of memory"; }
inline cudaError_t cudaMallocAsync(void** at, size_t bytes, cudaStream_t) {
  *at = aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *at ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFreeAsync(void* at, cudaStream_t) {
  free(at);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  mnist100::cuda::emulation::submit([=] {
    if (bytes) memcpy(to, from, bytes);
  });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t) {
  mnist100::cuda::emulation::submit([=] {
    if (bytes) memset(at, value, bytes);
  });
  return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** at, size_t bytes) { return cudaMallocAsync(at, bytes, nullptr); }
inline cudaError_t cudaMemset(void* at, int value, size_t bytes) {
  memset(at, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* at) { return cudaFreeAsync(at, nullptr); }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
constexpr unsigned cudaStreamNonBlocking = 1;
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
using cudaEvent_t = void*;
constexpr unsigned cudaEventDisableTiming = 2;
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
inline cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  mnist100::cuda::emulation::machine().graph.reset(new std::vector<std::function<void()>>);
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = mnist100::cuda::emulation::machine().graph.release();
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new std::vector<std::function<void()>>(*graph);
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  for (const std::function<void()>& work : *exec) work();
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return cudaGraphDestroy(exec); }
struct cudaDeviceProp {
  char name[256];
};
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"emulated on the CPU"};
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
