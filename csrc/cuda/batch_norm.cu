#include "channel_sums.cuh"
#include "ops.cuh"
#include "padded.cuh"

namespace mnist100::cuda {
namespace {

struct ValueTerm {
  PaddedSizes s;
  const float* x;
  __device__ double value(int pixel, int c) const {
    const PaddedPlace p = s.interior(pixel * s.c);
    return static_cast<double>(x[s.at(p.n, p.y, p.x) + c]);
  }
  __device__ Terms<1> operator()(int pixel, int c) const { return {{value(pixel, c)}}; }
};

struct SquareTerm {
  ValueTerm of;
  const double* means;
  __device__ Terms<1> operator()(int pixel, int c) const {
    const double apart = of.value(pixel, c) - means[c];
    return {{apart * apart}};
  }
};

struct MeanResult {
  double count;
  double* exact;
  float* mean;
  __device__ void operator()(int c, const Terms<1>& sum) const {
    exact[c] = sum.at[0] / count;
    mean[c] = static_cast<float>(exact[c]);
  }
};

struct VarianceResult {
  double count;
  float* var;
  __device__ void operator()(int c, const Terms<1>& sum) const {
    var[c] = static_cast<float>(sum.at[0] / count);
  }
};

// One rounding of z, so that forward and backward agree on which z are positive.
__device__ double normalised(const BatchNormParams<float>& p, int c, float x) {
  return (static_cast<double>(x) - static_cast<double>(p.mean[c])) * static_cast<double>(p.inv_std[c]);
}

__device__ float scaled(const BatchNormParams<float>& p, int c, float x) {
  return static_cast<float>(normalised(p, c, x) * static_cast<double>(p.gamma[c]) +
                            static_cast<double>(p.beta[c]));
}

// A thread an element of y's interior.
__global__ void normalise_kernel(PaddedSizes xs, PaddedSizes ys, bool pool, int size, const float* x,
                                 BatchNormParams<float> p, float* y, uint8_t* argmax) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const PaddedPlace at = ys.interior(i);
  float largest = 0;
  int best = -1;
  for (int place = 0; place < (pool ? 4 : 1); ++place) {
    const int from = pool ? xs.at(at.n, 2 * at.y + place / 2, 2 * at.x + place % 2) : xs.at(at.n, at.y, at.x);
    const float value = relu_of(scaled(p, at.c, x[from + at.c]));
    if (best >= 0 && !beats(value, largest)) continue;
    largest = value;
    best = place;
  }
  y[ys.at(at.n, at.y, at.x) + at.c] = largest;
  if (pool) argmax[i] = static_cast<uint8_t>(best);
}

// The gradient of z at an element of x.
struct NormalisedGradient {
  PaddedSizes xs, ys;
  bool pool;
  const float *dy, *x;
  const uint8_t* argmax;
  BatchNormParams<float> p;

  __device__ double operator()(const PaddedPlace& at, float value) const {
    if (!(scaled(p, at.c, value) > 0.0f)) return 0;
    const int row = pool ? at.y / 2 : at.y, column = pool ? at.x / 2 : at.x;
    if (row >= ys.h || column >= ys.w) return 0;
    const int place = at.y % 2 * 2 + at.x % 2;
    if (pool && argmax[((at.n * ys.h + row) * ys.w + column) * ys.c + at.c] != place) return 0;
    return static_cast<double>(dy[ys.at(at.n, row, column) + at.c]);
  }
};

struct GradientTerm {
  NormalisedGradient g;
  __device__ Terms<2> operator()(int pixel, int c) const {
    const PaddedPlace at = g.xs.interior(pixel * g.xs.c + c);
    const float value = g.x[g.xs.at(at.n, at.y, at.x) + c];
    const double gradient = g(at, value);
    return {{gradient, gradient * normalised(g.p, c, value)}};
  }
};

struct GradientResult {
  double* exact;  // [2][c]
  int channels;
  float *dgamma, *dbeta;
  __device__ void operator()(int c, const Terms<2>& sums) const {
    exact[c] = sums.at[0];
    exact[channels + c] = sums.at[1];
    dbeta[c] = static_cast<float>(sums.at[0]);
    dgamma[c] = static_cast<float>(sums.at[1]);
  }
};

// A thread an element of x's interior.
__global__ void input_gradient_kernel(NormalisedGradient g, int size, double count, const double* sums,
                                      float* dx) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const PaddedPlace at = g.xs.interior(i);
  const int to = g.xs.at(at.n, at.y, at.x) + at.c;
  const float value = g.x[to];
  const double mean_part = (sums[at.c] + normalised(g.p, at.c, value) * sums[g.xs.c + at.c]) / count;
  const double scale = static_cast<double>(g.p.gamma[at.c]) * static_cast<double>(g.p.inv_std[at.c]);
  dx[to] = static_cast<float>(scale * (g(at, value) - mean_part));
}

}  // namespace

void batch_norm_stats(const PaddedShape& s, const float* x, float* mean, float* var, cudaStream_t stream) {
  const int channels = static_cast<int>(s.c), pixels = static_cast<int>(s.count());
  const double count = static_cast<double>(s.count());
  Buffer<double> means(channels, stream);
  const ValueTerm value{PaddedSizes(s), x};
  sum_channels<1>(channels, pixels, value, MeanResult{count, means.get(), mean}, stream);
  sum_channels<1>(channels, pixels, SquareTerm{value, means.get()}, VarianceResult{count, var}, stream);
}

void batch_norm_relu(const BatchNormShape& s, const float* x, const BatchNormParams<float>& p, float* y,
                     uint8_t* argmax, cudaStream_t stream) {
  const int64_t size = s.y().count() * s.c;
  launch_elements(normalise_kernel, size, stream, PaddedSizes(s.x()), PaddedSizes(s.y()), s.pool,
                  static_cast<int>(size), x, p, y, argmax);
}

void batch_norm_relu_backward(const BatchNormShape& s, const float* dy, const float* x, const uint8_t* argmax,
                              const BatchNormParams<float>& p, float* dx, float* dgamma, float* dbeta,
                              cudaStream_t stream) {
  const int channels = static_cast<int>(s.c), pixels = static_cast<int>(s.x().count());
  const NormalisedGradient g{PaddedSizes(s.x()), PaddedSizes(s.y()), s.pool, dy, x, argmax, p};
  Buffer<double> sums(2 * s.c, stream);
  sum_channels<2>(channels, pixels, GradientTerm{g}, GradientResult{sums.get(), channels, dgamma, dbeta},
                  stream);
  if (!dx) return;
  const int64_t size = s.x().count() * s.c;
  launch_elements(input_gradient_kernel, size, stream, g, static_cast<int>(size), static_cast<double>(pixels),
                  static_cast<const double*>(sums.get()), dx);
}

}  // namespace mnist100::cuda
