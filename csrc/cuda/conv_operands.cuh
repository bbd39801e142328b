// Convolutions of padded NHWC as products. k and the columns of a weight gradient run over taps (ky, kx, c):
// the kx and c of a kernel row are adjacent in memory.
#pragma once

#include "multiply.cuh"
#include "padded.cuh"

namespace mnist100::cuda {

struct Pixel {
  int n, y, x;
};

// Rows of the product: the pixels of images (n,h,w), one after another.
class PixelRows {
 public:
  PixelRows(int h, int w) : by_h_(h), by_w_(w) {}
  __device__ Pixel operator()(int row) const {
    const int line = by_w_.quotient(row), n = by_h_.quotient(line);
    return {n, line - n * by_h_.by(), row - line * by_w_.by()};
  }

 private:
  Divisor by_h_, by_w_;
};

// Rows of the product: the four pixels of a 2x2 window, then those of the next window.
class WindowRows {
 public:
  WindowRows(int ph, int pw) : windows_(ph, pw) {}
  // The window's place among windows.
  __device__ Pixel window(int row) const { return windows_(row / 4); }
  __device__ Pixel operator()(int row) const {
    const Pixel at = window(row);
    return {at.n, 2 * at.y + row % 4 / 2, 2 * at.x + row % 2};
  }

 private:
  PixelRows windows_;
};

// Taps q .. q + 3, and how far behind the first tap of a pixel the first of them lies.
struct FourTaps {
  int q, first;
};

class Taps {
 public:
  Taps(const PaddedSizes& x_, int kh_, int kw_) : x(x_), kh(kh_), kw(kw_), by_row_(kw_ * x_.c), by_c_(x_.c) {}

  PaddedSizes x;  // its border is half the kernel
  int kh, kw;

  __host__ __device__ int count() const { return kh * kw * x.c; }
  // Where the first tap of an output pixel lies in x.
  __device__ int first(const Pixel& p) const { return x.at(p.n, p.y - kh / 2, p.x - kw / 2); }
  // How far behind it tap q lies.
  __device__ int offset(int q) const {
    const int ky = by_row_.quotient(q);
    return ky * x.width() * x.c + q - ky * by_row_.by();
  }
  __device__ FourTaps four(int q) const { return {q, offset(q)}; }
  // Where tap q of output channel o lies in w (oc,c,kh,kw).
  __device__ int in_weights(int o, int q) const {
    const int place = by_c_.quotient(q);
    return (o * x.c + q - place * x.c) * kh * kw + place;
  }

 private:
  Divisor by_row_, by_c_;
};

template <class ToPixel>
struct TapsOfPixel {
  static constexpr bool kQuadOfK = true, kFastK = true;
  Taps taps;
  ToPixel pixel;
  const float* x;
  bool aligned;
  TapsOfPixel(const Taps& taps_, const ToPixel& pixel_, const float* x_)
      : taps(taps_), pixel(pixel_), x(x_), aligned(is_aligned(x_) && taps_.x.c % 4 == 0) {}
  __device__ int index(int row) const { return taps.first(pixel(row)); }
  __device__ FourTaps depth(int q) const { return taps.four(q); }
  using Raw = Plain;
  __device__ void load(int first, const FourTaps& q, int count, Plain& to) const {
    if (aligned) return load_quad(x + first + q.first, true, 4, to.x);
    for (int e = 0; e < 4; ++e)
      if (e < count) to.x[e] = x[first + taps.offset(q.q + e)];
  }
  __device__ void finish(const Plain& raw, float (&to)[4]) const { raw.take(to); }
};

// The taps, and behind them a one, whose product with the gradients is the bias's.
template <class ToPixel>
struct PixelsOfTap {
  static constexpr bool kQuadOfK = false, kFastK = false;
  struct Index {
    int at[4];  // of each tap, -1 the one
  };
  Taps taps;
  ToPixel pixel;
  const float* x;
  bool aligned;
  PixelsOfTap(const Taps& taps_, const ToPixel& pixel_, const float* x_)
      : taps(taps_), pixel(pixel_), x(x_), aligned(is_aligned(x_) && taps_.x.c % 4 == 0) {}
  __device__ Index index(int q) const {
    Index index;
    MNIST100_UNROLL
    for (int e = 0; e < 4; ++e) index.at[e] = q + e == taps.count() ? -1 : taps.offset(q + e);
    return index;
  }
  __device__ int depth(int row) const { return taps.first(pixel(row)); }
  using Raw = Plain;
  __device__ void load(const Index& q, int first, int count, Plain& to) const {
    if (aligned && count >= 4) return load_quad(x + first + q.at[0], true, 4, to.x);
    MNIST100_UNROLL
    for (int e = 0; e < 4; ++e)
      if (e < count) to.x[e] = q.at[e] < 0 ? 1.0f : x[first + q.at[e]];
  }
  __device__ void finish(const Plain& raw, float (&to)[4]) const { raw.take(to); }
};

struct TapWeights {
  static constexpr bool kFastK = true, kColumnFirst = false;
  Taps taps;
  const float* w;
  __device__ float operator()(int o, int q) const { return w[taps.in_weights(o, q)]; }
};

struct TapWeightsResult {
  Taps taps;
  float *dw, *db;  // db null: none
  __device__ void operator()(int q, int rows, int o, int channels, const Sums& sums) const {
    MNIST100_UNROLL
    for (int r = 0; r < 4; ++r) {
      if (r >= rows) return;
      MNIST100_UNROLL
      for (int c = 0; c < 4; ++c) {
        if (c >= channels) continue;
        if (q + r < taps.count())
          dw[taps.in_weights(o + c, q + r)] = sums[c][r];
        else
          db[o + c] = sums[c][r];
      }
    }
  }
};

// w (oc,c,kh,kw) of an input channel: k (ky, kx, o), the kernel turned round.
class WeightsOfInput {
 public:
  static constexpr bool kFastK = true, kColumnFirst = true;
  WeightsOfInput(const float* w, int c, int oc, int taps) : w_(w), c_(c), taps_(taps), by_oc_(oc) {}
  __device__ float operator()(int channel, int q) const {
    const int tap = by_oc_.quotient(q);
    return w_[((q - tap * by_oc_.by()) * c_ + channel) * taps_ + taps_ - 1 - tap];
  }

 private:
  const float* w_;
  int c_, taps_;
  Divisor by_oc_;
};

// Gradients of a convolution's result as padded NHWC: the other operand of the weight gradient.
struct DenseChannels {
  static constexpr bool kQuadOfK = false, kFastK = false;
  PaddedSizes sizes;
  PixelRows pixel;
  const float* dense;
  bool aligned;
  DenseChannels(const PaddedShape& s, const float* dense_)
      : sizes(s),
        pixel(static_cast<int>(s.h), static_cast<int>(s.w)),
        dense(dense_),
        aligned(s.c % 4 == 0 && is_aligned(dense_)) {}
  __device__ int index(int o) const { return o; }
  __device__ int depth(int row) const {
    const Pixel p = pixel(row);
    return sizes.at(p.n, p.y, p.x);
  }
  using Raw = Plain;
  __device__ void load(int o, int at, int count, Plain& to) const {
    load_quad(dense + at + o, aligned, count, to.x);
  }
  __device__ void finish(const Plain& raw, float (&x)[4]) const { raw.take(x); }
};

// kApart: from one row of four to the next.
template <int kApart = 1>
struct PaddedResult {
  PaddedSizes y;
  PixelRows pixel;
  float* to;
  bool aligned;
  PaddedResult(const PaddedSizes& y_, const PixelRows& pixel_, float* to_)
      : y(y_), pixel(pixel_), to(to_), aligned(y_.c % 4 == 0 && is_aligned(to_)) {}
  __device__ void operator()(int i, int rows, int channel, int channels, const Sums& sums) const {
    MNIST100_UNROLL
    for (int r = 0; r < 4; ++r) {
      if (r >= rows) return;
      const Pixel p = pixel(i + kApart * r);
      const float row[4] = {sums[0][r], sums[1][r], sums[2][r], sums[3][r]};
      store_row(to + y.at(p.n, p.y, p.x) + channel, aligned, channels, row);
    }
  }
};

// The gradient of the weights of a convolution with the shape's n, c, h, w, oc, kh, kw, of whose result
// `rows` pixels can have one. `channels` is the operand (o, row) -> gradient.
template <class Shape, class Channels, class ToPixel>
void weight_gradient(const Shape& s, const Channels& channels, const ToPixel& pixel, int rows, const float* x,
                     float* dw, float* db, const Queue& queue) {
  const Taps taps(PaddedSizes(s.x()), static_cast<int>(s.kh), static_cast<int>(s.kw));
  multiply<Deep>(taps.count() + (db ? 1 : 0), static_cast<int>(s.oc), rows,
                 PixelsOfTap<ToPixel>(taps, pixel, x), channels, TapWeightsResult{taps, dw, db}, queue);
}

}  // namespace mnist100::cuda
