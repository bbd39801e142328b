// What every file here needs: launches, errors, warp sums.
//
// A kernel here takes sizes as int: an array has fewer than 2^31 elements (table.cu refuses more), and 64-bit
// division is slow on a GPU.
#pragma once

#include <stdint.h>

#include <stdexcept>

#ifdef MNIST100_EMULATE
#include "emulation.h"
#define MNIST100_UNROLL  // for speed alone
#define MNIST100_UNROLL_BY(n)
#else
#include <cuda_runtime.h>
#define MNIST100_UNROLL _Pragma("unroll")
#define MNIST100_PRAGMA(text) _Pragma(#text)
#define MNIST100_UNROLL_BY(n) MNIST100_PRAGMA(unroll n)
#endif

#include "kernels.h"
#include "precision.h"

namespace mnist100::cuda {

constexpr int kWarp = 32;
constexpr int kBlock = 256;  // threads of a block where nothing else matters

// Where work is launched, and what its products are made with.
struct Queue {
  cudaStream_t stream;
  Precision precision;
  Queue(cudaStream_t stream_, Precision precision_ = Precision::kFp32)  // implicit: a stream is a queue
      : stream(stream_), precision(precision_) {}
  operator cudaStream_t() const { return stream; }
};

class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws a CudaError that says what was being done.
void check(cudaError_t status, const char* doing);

inline int ceil_div(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }

// A kernel may be started while the one before it in the stream still runs, and waits here for its end (CUDA
// programming guide, "Programmatic dependent launch"). As that one waited too before it let this one start,
// what came before it has ended: a kernel that does not begin with this call reads only what that has left.
__device__ inline void await_previous() {
#if !defined(MNIST100_EMULATE) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

#ifndef MNIST100_EMULATE
// Whether kernels, all compiled alike, may start early: whether the code that the GPU in use has got waits.
inline bool launches_early(const void* kernel) {
  static const bool waits = [kernel] {
    cudaFuncAttributes attributes = {};
    check(cudaFuncGetAttributes(&attributes, kernel), "looking for a kernel");
    return attributes.ptxVersion >= 90;
  }();
  return waits;
}
#endif

// Runs `kernel` on grid x block threads; an empty grid runs nothing.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, [[maybe_unused]] cudaStream_t stream,
            Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#ifdef MNIST100_EMULATE
  emulation::submit(
      [=] { emulation::run(grid, block, [&] { kernel(static_cast<Parameters>(arguments)...); }); });
#else
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = stream;
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early;
  config.numAttrs = launches_early(reinterpret_cast<const void*>(kernel)) ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "starting a kernel");
#endif
}

// One thread for each of `size` elements.
template <class... Parameters, class... Arguments>
void launch_elements(void (*kernel)(Parameters...), int64_t size, cudaStream_t stream,
                     Arguments... arguments) {
  launch(kernel, dim3(static_cast<unsigned>(ceil_div(size, kBlock))), dim3(kBlock), stream, arguments...);
}

__device__ inline int element() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

// The sum over the lanes of a warp, in every lane, in one order.
template <class T>
__device__ T warp_sum(T value) {
  for (int apart = kWarp / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
  return value;
}

template <class T>
__device__ T warp_max(T value) {
  for (int apart = kWarp / 2; apart > 0; apart /= 2) {
    const T other = __shfl_xor_sync(0xffffffffu, value, apart);
    value = other > value ? other : value;
  }
  return value;
}

// The sum over a block of kBlock threads, in thread 0, in one order.
template <class T>
__device__ T block_sum(T value) {
  __shared__ T parts[kBlock / kWarp];
  value = warp_sum(value);
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  T sum = 0;
  if (threadIdx.x == 0)
    for (const T part : parts) sum += part;
  __syncthreads();  // before the next call writes `parts`
  return sum;
}

__device__ inline float relu_of(float x) { return x < 0.0f ? 0.0f : x; }  // a NaN is kept

// The larger one; a NaN if either is.
__device__ inline float max_or_nan(float a, float b) {
#ifdef MNIST100_EMULATE
  return a != a || b != b ? a + b : a > b ? a : b;
#else
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
#endif
}

// A NaN beats everything before it.
__device__ inline bool beats(float candidate, float best) {
  return candidate > best || candidate != candidate;
}

}  // namespace mnist100::cuda
