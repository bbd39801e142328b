// The weight gradient that belongs to Winograd's F(2x2, 3x3), by differentiating it: with Y = A^T [(G g G^T)
// . (B^T d B)] A, dg = G^T [sum over windows of (A dY A^T) . (B^T d B)] G. 16 products a window where the sum
// over its pixels and taps takes 36. Matrices: winograd.h.
#pragma once

#include "winograd.h"

namespace mnist100 {
namespace {

// Windows at a time: their patches and gradients, 16 · 14 · 4 bytes a channel, stay in a core's caches. 14
// are a row of a 28x28 image. With 28 or 56 the step takes as long.
constexpr int64_t kGradientWindows = 14;

// A dY A^T of the 2x2 window at d, channels one vector -> dst[16 places, `place` floats apart]. Its first row
// or column counts as 0 if another window has it too.
MNIST100_INLINE void transform_gradient(const float* d, int64_t d_row, int64_t c, bool repeats_row,
                                        bool repeats_column, float* dst, int64_t place) {
  Vec g[2][2] = {{load(d), load(d + c)}, {load(d + d_row), load(d + d_row + c)}};
  if (repeats_row) g[0][0] = g[0][1] = Vec{};
  if (repeats_column) g[0][0] = g[1][0] = Vec{};
  const Vec rows[4][2] = {{g[0][0], g[0][1]},
                          {g[0][0] + g[1][0], g[0][1] + g[1][1]},
                          {g[0][0] - g[1][0], g[0][1] - g[1][1]},
                          {-g[1][0], -g[1][1]}};
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    store(dst + (4 * i + 0) * place, rows[i][0]);
    store(dst + (4 * i + 1) * place, rows[i][0] + rows[i][1]);
    store(dst + (4 * i + 2) * place, rows[i][0] - rows[i][1]);
    store(dst + (4 * i + 3) * place, -rows[i][1]);
  }
}

// Channels of both images in whole vectors; the border of `x` is (1, 1), that of `d` is of any size.
struct WinogradGradient {
  PaddedShape x, d;

  int64_t sums() const { return 16 * x.c * d.c; }
  int64_t scratch_floats() const { return 16 * kGradientWindows * (x.c + d.c); }

  // sums (16,x.c,d.c) += those of one sample.
  void add_sample(const float* x_sample, const float* d_sample, float* sums, float* scratch_block) const {
    const int64_t across = ceil_div(x.w, 2), windows = across * ceil_div(x.h, 2);
    const int64_t x_place = kGradientWindows * x.c, d_place = kGradientWindows * d.c;
    float *patches = scratch_block, *gradients = scratch_block + 16 * x_place;
    int64_t row = 0, column = 0;
    for (int64_t first = 0; first < windows; first += kGradientWindows) {
      const int64_t size = min_of(kGradientWindows, windows - first);
      for (int64_t i = 0; i < size; ++i) {
        // Of an odd size, the last two rows or columns share one with those before.
        const int64_t iy = min_of(row, x.h - 2), ix = min_of(column, x.w - 2);
        for (int64_t c = 0; c < x.c; c += kLanes)
          transform_patch(x_sample + iy * x.row() + ix * x.c + c, x.row(), x.c, patches + i * x.c + c,
                          x_place);
        for (int64_t o = 0; o < d.c; o += kLanes)
          transform_gradient(d_sample + d.at(0, iy, ix) + o, d.row(), d.c, iy < row, ix < column,
                             gradients + i * d.c + o, d_place);
        column += 2;
        if (column >= x.w) {
          column = 0;
          row += 2;
        }
      }
      for (int64_t place = 0; place < 16; ++place)
        add_products(size, patches + place * x_place, gradients + place * d_place, sums + place * x.c * d.c);
    }
  }

  // sums (x.c,d.c) += patches^T gradients
  void add_products(int64_t size, const float* patches, const float* gradients, float* sums) const {
    for_each_panel(d.c, [&](auto vecs, int64_t first) MNIST100_LAMBDA_INLINE {
      for_each_run<kPixels>(x.c, [&](auto count, int64_t c) MNIST100_LAMBDA_INLINE {
        Tile<decltype(count)::value, decltype(vecs)::value> tile;
        tile.clear();
        tile.add_product(size, patches + c, 1, x.c, gradients + first, d.c);
        tile.add_to(sums + c * d.c + first, d.c);
      });
    });
  }

  // dw (oc,x.c,3,3) from the sums of all samples. Returns false if a result is not finite: then it has to be
  // computed in another way, for one such input spoils taps here that it does not meet.
  bool write(int64_t oc, const float* sums, float* dw) const {
    const int64_t place = x.c * d.c;
    Vec spoilt = {};
    for (int64_t c = 0; c < x.c; ++c)
      for (int64_t o = 0; o < oc; o += kLanes) {
        const float* m = sums + c * d.c + o;
        Vec rows[3][4], taps[9];
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          const Vec m1 = load(m + (4 + j) * place), m2 = load(m + (8 + j) * place);
          rows[0][j] = load(m + j * place) + 0.5f * (m1 + m2);
          rows[1][j] = 0.5f * (m1 - m2);
          rows[2][j] = 0.5f * (m1 + m2) + load(m + (12 + j) * place);
        }
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) {
          const Vec* r = rows[i];
          taps[3 * i + 0] = r[0] + 0.5f * (r[1] + r[2]);
          taps[3 * i + 1] = 0.5f * (r[1] - r[2]);
          taps[3 * i + 2] = 0.5f * (r[1] + r[2]) + r[3];
        }
#pragma GCC unroll 9
        for (int t = 0; t < 9; ++t) spoilt += taps[t] * 0.0f;
        for (int64_t i = 0; i < min_of(kLanes, oc - o); ++i)
          for (int t = 0; t < 9; ++t) dw[((o + i) * x.c + c) * 9 + t] = taps[t][i];
      }
    return !is_spoilt(spoilt);
  }
};

}  // namespace
}  // namespace mnist100
