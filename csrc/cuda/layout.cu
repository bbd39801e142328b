#include "device_memory.cuh"
#include "ops.cuh"
#include "padded.cuh"

namespace mnist100::cuda {
namespace {

// A thread a place of y, the border too: neighbours write neighbours.
__global__ void pad_kernel(PaddedSizes s, int size, const float* x, float* y) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const PaddedPlace at = s.place(i);
  y[i] = s.inside(at) ? x[((static_cast<int64_t>(at.n) * s.c + at.c) * s.h + at.y) * s.w + at.x] : 0.0f;
}

__global__ void unpad_kernel(PaddedSizes s, int size, const float* x, float* y) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const PaddedPlace at = s.plane_place(i);
  y[i] = x[s.at(at.n, at.y, at.x) + at.c];
}

}  // namespace

void pad_nhwc(const PaddedShape& s, const float* x, float* y, cudaStream_t stream) {
  const int64_t size = s.n * s.sample();
  launch_elements(pad_kernel, size, stream, PaddedSizes(s), static_cast<int>(size), x, y);
}

void unpad_nhwc(const PaddedShape& s, const float* x, float* y, cudaStream_t stream) {
  const int64_t size = s.n * s.c * s.h * s.w;
  launch_elements(unpad_kernel, size, stream, PaddedSizes(s), static_cast<int>(size), x, y);
}

}  // namespace mnist100::cuda
