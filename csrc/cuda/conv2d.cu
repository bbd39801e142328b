#include "conv2d_shape.cuh"
#include "linear_ops.cuh"

namespace mnist100::cuda {
namespace {

// The column matrix, never written: row (n,oy,ox), k (c,ky,kx).
struct Columns {
  static constexpr bool kFastK = false;  // neighbouring outputs read neighbouring pixels
  Conv2dSizes s;
  const float* x;
  __device__ float operator()(int row, int q) const { return s.gathered(x, row, q); }
};

// The column matrix transposed: the other operand of the weight gradient.
struct ColumnsAcross {
  static constexpr bool kFastK = true;
  Conv2dSizes s;
  const float* x;
  __device__ float operator()(int q, int row) const { return s.gathered(x, row, q); }
};

// dy (n,oc,oh,ow) as a matrix of output channels by pixels.
struct Gradients {
  static constexpr bool kFastK = true;
  const float* dy;
  int oc, plane;
  __device__ float operator()(int o, int pixel) const {
    return dy[(static_cast<int64_t>(pixel / plane) * oc + o) * plane + pixel % plane];
  }
};

// The columns of the input gradient: row (n,iy,ix), k (o,ky,kx); zero where no window has that tap there.
struct GradientColumns {
  static constexpr bool kFastK = false;
  Conv2dSizes s;
  const float* dy;
  __device__ float operator()(int row, int q) const {
    const int y = row / s.w % s.h + s.ph - q / s.kw % s.kh, x = row % s.w + s.pw - q % s.kw;
    if (y < 0 || x < 0 || y % s.sh != 0 || x % s.sw != 0) return 0.0f;
    const int oy = y / s.sh, ox = x / s.sw;
    if (oy >= s.oh || ox >= s.ow) return 0.0f;
    const int64_t image = row / (s.w * s.h);
    return dy[((image * s.oc + q / (s.kw * s.kh)) * s.oh + oy) * s.ow + ox];
  }
};

// w (oc,c,kh,kw) by input channel: row c, k (o,ky,kx).
struct WeightsByInput {
  static constexpr bool kFastK = true;
  const float* w;
  int c, taps;
  __device__ float operator()(int channel, int q) const {
    return w[(static_cast<int64_t>(q / taps) * c + channel) * taps + q % taps];
  }
};

// To planes (n,channels,plane): row (n,pixel), column channel.
struct PlanesResult {
  const float* b;  // null: none
  float* y;
  int channels, plane;
  __device__ void operator()(int i, int rows, int channel, int count, const Sums& sums) const {
    for (int r = 0; r < rows; ++r) {
      const int64_t image = (i + r) / plane;
      float* to = y + (image * channels + channel) * plane + (i + r) % plane;
      for (int c = 0; c < count; ++c) to[c * plane] = sums[c][r] + (b ? b[channel + c] : 0.0f);
    }
  }
};

struct MatrixResult {
  float* c;
  int n;
  __device__ void operator()(int i, int rows, int j, int columns, const Sums& sums) const {
    for (int r = 0; r < rows; ++r)
      for (int q = 0; q < columns; ++q) c[static_cast<int64_t>(i + r) * n + j + q] = sums[q][r];
  }
};

// A block a channel of dy (n,oc,plane).
__global__ void channel_sums(int n, int oc, int plane, const float* dy, float* db) {
  await_previous();
  const int o = static_cast<int>(blockIdx.x);
  float sum = 0;
  for (int at = static_cast<int>(threadIdx.x); at < n * plane; at += kBlock)
    sum += dy[(static_cast<int64_t>(at / plane) * oc + o) * plane + at % plane];
  const float total = block_sum(sum);
  if (threadIdx.x == 0) db[o] = total;
}

}  // namespace

void conv2d(const Conv2dShape& shape, const float* x, const float* w, const float* b, float* y,
            const Queue& queue) {
  const Conv2dSizes s(shape);
  const int pixels = static_cast<int>(shape.n) * s.oh * s.ow;
  multiply<Tall>(pixels, s.oc, s.columns(), Singly<Columns>{{s, x}}, Rows<true>(w, s.columns()),
                 PlanesResult{b, y, s.oc, s.oh * s.ow}, queue);
}

void conv2d_backward(const Conv2dShape& shape, const float* dy, const float* x, const float* w, float* dx,
                     float* dw, float* db, const Queue& queue) {
  const Conv2dSizes s(shape);
  const int n = static_cast<int>(shape.n), plane = s.oh * s.ow, taps = s.kh * s.kw;
  if (dx)
    multiply<Tall>(n * s.h * s.w, s.c, s.oc * taps, Singly<GradientColumns>{{s, dy}},
                   Singly<WeightsByInput>{{w, s.c, taps}}, PlanesResult{nullptr, dx, s.c, s.h * s.w}, queue);
  if (dw)
    multiply<Square>(s.oc, s.columns(), n * plane, Singly<Gradients>{{dy, s.oc, plane}},
                     Singly<ColumnsAcross>{{s, x}}, MatrixResult{dw, s.columns()}, queue);
  if (db)
    launch(channel_sums, dim3(static_cast<unsigned>(s.oc)), dim3(kBlock), queue, n, s.oc, plane, dy, db);
}

}  // namespace mnist100::cuda
