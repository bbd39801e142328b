#include "conv2d_shape.cuh"
#include "device_memory.cuh"
#include "ops.cuh"

namespace mnist100::cuda {
namespace {

struct PoolSizes {
  int h, w, kh, kw, sh, sw, ph, pw, oh, ow;

  explicit PoolSizes(const Pool2dShape& s)
      : h(static_cast<int>(s.h)),
        w(static_cast<int>(s.w)),
        kh(static_cast<int>(s.kh)),
        kw(static_cast<int>(s.kw)),
        sh(static_cast<int>(s.sh)),
        sw(static_cast<int>(s.sw)),
        ph(static_cast<int>(s.ph)),
        pw(static_cast<int>(s.pw)),
        oh(static_cast<int>(s.oh())),
        ow(static_cast<int>(s.ow())) {}
};

// A thread a window.
__global__ void max_pool_kernel(PoolSizes s, int size, const float* x, float* y, int32_t* argmax) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const int ox = i % s.ow, oy = i / s.ow % s.oh;
  const float* plane = x + static_cast<int64_t>(i / (s.ow * s.oh)) * s.h * s.w;
  int best = -1;
  float largest = 0;
  for (int ky = 0; ky < s.kh; ++ky)
    for (int kx = 0; kx < s.kw; ++kx) {
      const int iy = oy * s.sh - s.ph + ky, ix = ox * s.sw - s.pw + kx;
      if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
      const float value = plane[iy * s.w + ix];
      if (best >= 0 && !beats(value, largest)) continue;
      best = iy * s.w + ix;
      largest = value;
    }
  y[i] = largest;
  argmax[i] = best;
}

// Gradients of one plane: a block adds those of whole windows in their order, because an argmax may point
// anywhere. A thread owns every kBlock-th pixel and looks at every window of the plane; windows are looked at
// kBlock at a time, from shared memory.
__global__ void __launch_bounds__(kBlock)
    max_pool_backward_kernel(PoolSizes s, const float* dy, const int32_t* argmax, float* dx, int32_t* valid) {
  await_previous();
  __shared__ int places[kBlock];
  __shared__ float gradients[kBlock];
  const int self = static_cast<int>(threadIdx.x), windows = s.oh * s.ow, pixels = s.h * s.w;
  const int64_t plane = blockIdx.x;
  for (int pixel0 = 0; pixel0 < pixels; pixel0 += kBlock) {
    float sum = 0;
    for (int window0 = 0; window0 < windows; window0 += kBlock) {
      const int window = window0 + self;
      __syncthreads();
      places[self] = window < windows ? argmax[plane * windows + window] : -1;
      gradients[self] = window < windows ? dy[plane * windows + window] : 0.0f;
      if (window < windows && (places[self] < 0 || places[self] >= pixels)) *valid = 0;
      __syncthreads();
      const int seen = windows - window0 < kBlock ? windows - window0 : kBlock;
      for (int other = 0; other < seen; ++other)
        if (places[other] == pixel0 + self) sum += gradients[other];
    }
    if (pixel0 + self < pixels) dx[plane * pixels + pixel0 + self] = sum;
  }
}

__global__ void set_to_one(int32_t* valid) {
  await_previous();
  *valid = 1;
}

}  // namespace

void max_pool2d(const Pool2dShape& s, const float* x, float* y, int32_t* argmax, cudaStream_t stream) {
  const int64_t size = s.n * s.c * s.oh() * s.ow();
  launch_elements(max_pool_kernel, size, stream, PoolSizes(s), static_cast<int>(size), x, y, argmax);
}

void max_pool2d_backward(const Pool2dShape& s, const float* dy, const int32_t* argmax, float* dx,
                         int32_t* valid, cudaStream_t stream) {
  launch(set_to_one, dim3(1), dim3(1), stream, valid);
  launch(max_pool_backward_kernel, dim3(static_cast<unsigned>(s.n * s.c)), dim3(kBlock), stream, PoolSizes(s),
         dy, argmax, dx, valid);
}

}  // namespace mnist100::cuda
