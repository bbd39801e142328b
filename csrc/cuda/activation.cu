#include "ops.cuh"
#include "philox.h"

namespace mnist100::cuda {
namespace {

__global__ void relu_kernel(int size, const float* x, float* y) {
  await_previous();
  const int i = element();
  if (i < size) y[i] = relu_of(x[i]);
}

__global__ void relu_backward_kernel(int size, const float* dy, const float* y, float* dx) {
  await_previous();
  const int i = element();
  if (i < size) dx[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

// A thread a block of random bits: four elements.
__global__ void dropout_kernel(int size, double threshold, float scale, Draws random, const float* x,
                               float* y, uint8_t* mask) {
  await_previous();
  const int block = element();
  if (4 * static_cast<int64_t>(block) >= size) return;
  const Bits4 bits = philox(random.now(), kDropout, static_cast<uint64_t>(block));
  for (int word = 0; word < 4 && 4 * block + word < size; ++word) {
    const int i = 4 * block + word;
    const bool kept = static_cast<double>(bits.w[word]) >= threshold;
    mask[i] = kept;
    y[i] = kept ? x[i] * scale : 0.0f;
  }
}

__global__ void dropout_backward_kernel(int size, float scale, const float* dy, const uint8_t* mask,
                                        float* dx) {
  await_previous();
  const int i = element();
  if (i < size) dx[i] = mask[i] ? dy[i] * scale : 0.0f;
}

float dropout_scale(double p) { return static_cast<float>(1.0 / (1.0 - p)); }

}  // namespace

void relu(int64_t size, const float* x, float* y, cudaStream_t stream) {
  launch_elements(relu_kernel, size, stream, static_cast<int>(size), x, y);
}

void relu_backward(int64_t size, const float* dy, const float* y, float* dx, cudaStream_t stream) {
  launch_elements(relu_backward_kernel, size, stream, static_cast<int>(size), dy, y, dx);
}

void dropout(int64_t size, double p, Draws random, const float* x, float* y, uint8_t* mask,
             cudaStream_t stream) {
  launch_elements(dropout_kernel, ceil_div(size, 4), stream, static_cast<int>(size), p * 0x1p32,
                  dropout_scale(p), random, x, y, mask);
}

void dropout_backward(int64_t size, double p, const float* dy, const uint8_t* mask, float* dx,
                      cudaStream_t stream) {
  launch_elements(dropout_backward_kernel, size, stream, static_cast<int>(size), dropout_scale(p), dy, mask,
                  dx);
}

}  // namespace mnist100::cuda
