// Convolutions of padded NHWC as products. k and the columns of a weight gradient run over taps (ky, kx, c):
// the kx and c of a kernel row are adjacent in memory.
#pragma once

#include "channel_sums.cuh"
#include "multiply.cuh"
#include "padded.cuh"

namespace mnist100::cuda {

struct Pixel {
  int n, y, x;
};

// Rows of the product: the pixels of images (n,h,w), one after another.
struct PixelRows {
  int h, w;
  __device__ Pixel operator()(int row) const { return {row / (w * h), row / w % h, row % w}; }
};

// Rows of the product: the four pixels of a 2x2 window, then those of the next window.
struct WindowRows {
  int ph, pw;
  __device__ Pixel operator()(int row) const {
    const int window = row / 4, place = row % 4;
    return {window / (pw * ph), window / pw % ph * 2 + place / 2, window % pw * 2 + place % 2};
  }
};

struct Taps {
  PaddedSizes x;  // its border is half the kernel
  int kh, kw;
  __host__ __device__ int count() const { return kh * kw * x.c; }
  // Where tap q of an output pixel lies in x.
  __device__ int at(const Pixel& p, int q) const {
    return x.at(p.n, p.y + q / (x.c * kw) - kh / 2, p.x + q / x.c % kw - kw / 2) + q % x.c;
  }
  // Where tap q of output channel o lies in w (oc,c,kh,kw).
  __device__ int in_weights(int o, int q) const { return (o * x.c + q % x.c) * kh * kw + q / x.c; }
};

template <class ToPixel>
struct TapsOfPixel {
  static constexpr bool kFastK = true;
  Taps taps;
  ToPixel pixel;
  const float* x;
  __device__ float operator()(int row, int q) const { return x[taps.at(pixel(row), q)]; }
};

template <class ToPixel>
struct PixelsOfTap {
  static constexpr bool kFastK = false;
  Taps taps;
  ToPixel pixel;
  const float* x;
  __device__ float operator()(int q, int row) const { return x[taps.at(pixel(row), q)]; }
};

struct TapWeights {
  static constexpr bool kFastK = true;
  Taps taps;
  const float* w;
  __device__ float operator()(int o, int q) const { return w[taps.in_weights(o, q)]; }
};

struct TapWeightsResult {
  Taps taps;
  float* dw;
  __device__ void operator()(int q, int rows, int o, const float (&sums)[4]) const {
    for (int r = 0; r < rows; ++r) dw[taps.in_weights(o, q + r)] = sums[r];
  }
};

// What reaches output channel o of pixel p: `G` is a functor (Pixel, o) -> gradient of the convolution's
// result.
template <class G, class ToPixel>
struct GradientOfChannel {
  static constexpr bool kFastK = false;
  G g;
  ToPixel pixel;
  __device__ float operator()(int o, int row) const { return g(pixel(row), o); }
};

// Columns of the input gradient: k (ky, kx, o), the gradient of the pixel that has input pixel `row` at that
// tap.
template <class G>
struct GradientTaps {
  static constexpr bool kFastK = true;
  G g;
  int h, w, oc, kh, kw;
  __device__ float operator()(int row, int q) const {
    const int y = row / w % h - q / (oc * kw) + kh / 2, x = row % w - q / oc % kw + kw / 2;
    return y < 0 || y >= h || x < 0 || x >= w ? 0.0f : g({row / (w * h), y, x}, q % oc);
  }
};

struct WeightsOfInput {
  static constexpr bool kFastK = true;
  const float* w;
  int c, oc, taps;
  __device__ float operator()(int channel, int q) const {
    return w[static_cast<int64_t>(q % oc * c + channel) * taps + q / oc];
  }
};

struct PaddedResult {
  PaddedSizes y;
  float* to;
  __device__ void operator()(int i, int rows, int channel, const float (&sums)[4]) const {
    for (int r = 0; r < rows; ++r) {
      const PaddedPlace p = y.interior((i + r) * y.c + channel);
      to[y.at(p.n, p.y, p.x) + channel] = sums[r];
    }
  }
};

template <class G, class ToPixel>
struct BiasTerm {
  G g;
  ToPixel pixel;
  __device__ Terms<1> operator()(int row, int o) const { return {{static_cast<double>(g(pixel(row), o))}}; }
};

struct BiasResult {
  float* db;
  __device__ void operator()(int o, const Terms<1>& sum) const { db[o] = static_cast<float>(sum.at[0]); }
};

// All three gradients of a convolution with the shape's n, c, h, w, oc, kh, kw, of whose result `rows` pixels
// can have one.
template <class Shape, class G, class ToPixel>
void conv_gradients(const Shape& s, G g, ToPixel pixel, int rows, const float* x, const float* w, float* dx,
                    float* dw, float* db, const Queue& queue) {
  const Taps taps{PaddedSizes(s.x()), static_cast<int>(s.kh), static_cast<int>(s.kw)};
  const int oc = static_cast<int>(s.oc), c = taps.x.c, h = taps.x.h, width = taps.x.w;
  if (dx)
    multiply(static_cast<int>(s.n) * h * width, c, oc * taps.kh * taps.kw,
             GradientTaps<G>{g, h, width, oc, taps.kh, taps.kw}, WeightsOfInput{w, c, oc, taps.kh * taps.kw},
             PaddedResult{taps.x, dx}, queue);
  multiply(taps.count(), oc, rows, PixelsOfTap<ToPixel>{taps, pixel, x},
           GradientOfChannel<G, ToPixel>{g, pixel}, TapWeightsResult{taps, dw}, queue);
  sum_channels<1>(oc, rows, BiasTerm<G, ToPixel>{g, pixel}, BiasResult{db}, queue);
}

}  // namespace mnist100::cuda
