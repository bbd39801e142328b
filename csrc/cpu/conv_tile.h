// Stride-1 correlation of zero-padded NHWC images, row by row. The taps of one kernel row are kw * c
// adjacent floats, so the image itself is the left operand of the register tile, at row stride c.
#pragma once

#include "microkernel.h"

namespace mnist100 {
namespace {

// Output pixels a tile: with AVX-512 14 x 2 accumulators + 2 + 1 registers of 32, which 14, 28 and 56 pixels
// fill without a rest.
constexpr int kPixels = kVectorBytes == 64 ? 14 : kRows;

// Weights of a correlation as the register tile wants them. Output channels are cut into panels of kCols
// and, if at most kLanes are left, one of kLanes; panel p lies at weights + p * kCols * taps as
// [kh][kw * c][width]. `oc` is rounded up to whole vectors.
struct Correlation {
  int64_t c, oc, kh, kw;
  const float* weights;
  const float* bias;  // (oc), or null
  bool relu;

  MNIST100_INLINE int64_t run() const { return kw * c; }
  MNIST100_INLINE int64_t taps() const { return kh * kw * c; }
};

// weight(o, c, ky, kx) may be called with any o < f.oc and c < f.c.
template <class F>
void pack_weights(const Correlation& f, float* dst, F weight) {
  for (int64_t first = 0; first < f.oc; first += kCols) {
    const int64_t width = min_of(kCols, f.oc - first);
    for (int64_t ky = 0; ky < f.kh; ++ky)
      for (int64_t kx = 0; kx < f.kw; ++kx)
        for (int64_t c = 0; c < f.c; ++c)
          for (int64_t o = first; o < first + width; ++o) *dst++ = weight(o, c, ky, kx);
  }
}

// Calls f(Count<vectors>, first channel) for each panel of `oc` channels, a whole number of vectors.
template <class F>
MNIST100_INLINE void for_each_panel(int64_t oc, F f) {
  for (int64_t first = 0; first < oc; first += kCols) {
    if (oc - first > kLanes)
      f(Count<kVecs>{}, first);
    else
      f(Count<1>{}, first);
  }
}

// Calls f(Count<size>, first) over [0, total) in runs of at most Max, as equal as can be: 28 are 10 + 9 + 9
// in runs of 12, not 12 + 12 + 4.
template <int Max, class F>
MNIST100_INLINE void for_each_run(int64_t total, F f) {
  for (int64_t first = 0, runs = ceil_div(total, Max); runs > 0; --runs) {
    const int64_t size = ceil_div(total - first, runs);
    with_rows<Max>(size, [&](auto count) MNIST100_LAMBDA_INLINE { f(count, first); });
    first += size;
  }
}

// One panel of V vectors: out[pixel * stride + :] for `width` pixels whose first tap is x[0].
template <int V>
void correlate_panel(const Correlation& f, int64_t first, int64_t width, const float* x, int64_t x_row,
                     float* out, int64_t stride) {
  const float* weights = f.weights + first * f.taps();
  for_each_run<kPixels>(width, [&](auto count, int64_t pixel) MNIST100_LAMBDA_INLINE {
    Tile<decltype(count)::value, V> tile;
    tile.clear();
    for (int64_t ky = 0; ky < f.kh; ++ky)
      tile.add_product(f.run(), x + ky * x_row + pixel * f.c, f.c, 1, weights + ky * f.run() * V * kLanes,
                       V * kLanes);
    if (f.bias) tile.add_row(f.bias + first);
    if (f.relu) tile.clip_negative();
    tile.store_to(out + pixel * stride + first, stride);
  });
}

// One output row: out[pixel * stride + o] for all o < f.oc.
void correlate_row(const Correlation& f, int64_t width, const float* x, int64_t x_row, float* out,
                   int64_t stride) {
  for_each_panel(f.oc, [&](auto vecs, int64_t first) {
    correlate_panel<decltype(vecs)::value>(f, first, width, x, x_row, out, stride);
  });
}

// A whole sample: interiors of `in` -> `out`, images of the same size, the border of `in` being (kh/2, kw/2).
// `row` holds in.w * f.oc floats and is used where out.c is not a whole number of vectors.
[[maybe_unused]] void correlate_sample(const Correlation& f, const PaddedShape& in, const float* x,
                                       const PaddedShape& out, float* y, float* row) {
  for (int64_t iy = 0; iy < in.h; ++iy) {
    float* to = y + out.at(0, iy, 0);
    const float* first_tap = x + iy * in.row();
    if (f.oc == out.c) {
      correlate_row(f, in.w, first_tap, in.row(), to, out.c);
      continue;
    }
    correlate_row(f, in.w, first_tap, in.row(), row, f.oc);
    for (int64_t ix = 0; ix < in.w; ++ix)
      for (int64_t c = 0; c < out.c; ++c) to[ix * out.c + c] = row[ix * f.oc + c];
  }
}

}  // namespace
}  // namespace mnist100
