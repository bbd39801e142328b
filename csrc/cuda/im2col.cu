#include "conv2d_shape.cuh"
#include "ops.cuh"

namespace mnist100::cuda {
namespace {

// A thread an element of cols: neighbours in a row of cols read neighbours in a row of x.
__global__ void im2col_kernel(Conv2dSizes s, int size, const float* x, float* cols) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  cols[i] = s.gathered(x, i / s.columns(), i % s.columns());
}

// A thread an element of dx, which adds the columns that hold it, in the order of the windows.
__global__ void col2im_kernel(Conv2dSizes s, int size, const float* cols, float* dx) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const int ix = i % s.w, iy = i / s.w % s.h, c = i / (s.w * s.h) % s.c, n = i / (s.w * s.h * s.c);
  const Windows rows = windows_over(iy + s.ph, s.kh, s.sh, s.oh);
  const Windows across = windows_over(ix + s.pw, s.kw, s.sw, s.ow);
  float sum = 0;
  for (int oy = rows.first; oy < rows.end; ++oy)
    for (int ox = across.first; ox < across.end; ++ox) {
      const int ky = iy + s.ph - oy * s.sh, kx = ix + s.pw - ox * s.sw;
      const int64_t row = (static_cast<int64_t>(n) * s.oh + oy) * s.ow + ox;
      sum += cols[row * s.columns() + (c * s.kh + ky) * s.kw + kx];
    }
  dx[i] = sum;
}

}  // namespace

void im2col(const Conv2dShape& s, const float* x, float* cols, cudaStream_t stream) {
  const int64_t size = s.n * s.oh() * s.ow() * s.c * s.kh * s.kw;
  launch_elements(im2col_kernel, size, stream, Conv2dSizes(s), static_cast<int>(size), x, cols);
}

void col2im(const Conv2dShape& s, const float* cols, float* dx, cudaStream_t stream) {
  const int64_t size = s.n * s.c * s.h * s.w;
  launch_elements(col2im_kernel, size, stream, Conv2dSizes(s), static_cast<int>(size), cols, dx);
}

}  // namespace mnist100::cuda
