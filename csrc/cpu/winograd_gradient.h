// The weight gradient that belongs to Winograd's filtering, by differentiating it: with Y = A^T [(G g G^T) .
// (B^T d B)] A, dg = G^T [sum over windows of (A dY A^T) . (B^T d B)] G: as many products a window as
// forward. Matrices: winograd_lines.h.
#pragma once

#include "conv_plan.h"

namespace mnist100 {
namespace {

// Windows whose products are added up in registers before they meet the sums, which for wide layers do not
// fit a core's caches. Patches and gradients are kPlaces * 56 * 4 bytes a channel.
constexpr int64_t kGradientWindows = 56;

// Sums are kPlaces * 4 bytes for each pair of channels: so many products at least share each, unless that
// leaves fewer than 8 chunks for the threads.
constexpr int64_t kWindowsOfSums = 256, kLeastChunks = 8;

// A dY A^T of the window at d, channels one vector -> dst[places, `place` floats apart]. Its first rows and
// columns count as 0 if another window has them too.
template <class F>
MNIST100_INLINE void transform_gradient(const float* d, int64_t d_row, int64_t c, int64_t repeated_rows,
                                        int64_t repeated_columns, float* dst, int64_t place) {
  Vec columns[F::kOut][F::kIn];
#pragma GCC unroll 4
  for (int j = 0; j < F::kOut; ++j) {
    Vec y[F::kOut];
#pragma GCC unroll 4
    for (int i = 0; i < F::kOut; ++i)
      y[i] = i < repeated_rows || j < repeated_columns ? Vec{} : load(d + i * d_row + j * c);
    F::gradient(y, columns[j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < F::kIn; ++i) {
    Vec y[F::kOut], v[F::kIn];
#pragma GCC unroll 4
    for (int j = 0; j < F::kOut; ++j) y[j] = columns[j][i];
    F::gradient(y, v);
#pragma GCC unroll 6
    for (int j = 0; j < F::kIn; ++j) store(dst + (F::kIn * i + j) * place, v[j]);
  }
}

// Channels of both images in whole vectors; the border of `x` is (1, 1), that of `d` is of any size.
template <class F>
struct WinogradGradient {
  static constexpr int kAll = kPlaces<F>;
  PaddedShape x, d;

  // Transformed windows of one worker that are not yet in its sums.
  struct Block {
    float* at;
    int64_t windows;
    bool first;  // nothing is in the sums yet
  };

  int64_t windows() const { return WindowWalk<F>::count(x.h, x.w); }
  // Chunks into which n samples are cut at most.
  int64_t chunks(int64_t n) const { return max_of(kLeastChunks, n * windows() / kWindowsOfSums); }
  int64_t sums() const { return kAll * x.c * d.c; }

  // Floats from one window to the next, an odd number of cache lines: those that one product reads then lie
  // in different sets of the cache.
  static int64_t stride(int64_t channels) { return 16 * (ceil_div(channels, 16) | 1); }
  static int64_t place(int64_t channels) { return kGradientWindows * stride(channels); }
  int64_t scratch_floats() const { return kAll * (place(x.c) + place(d.c)); }

  // Adds one sample to the block, and the block to sums (kAll,x.c,d.c) whenever it is full.
  void add_sample(const float* x_sample, const float* d_sample, Block& block, float* sums) const {
    float *patches = block.at, *gradients = block.at + kAll * place(x.c);
    WindowWalk<F> walk = {x.h, x.w};
    for (int64_t left = windows(); left > 0; --left) {
      const int64_t iy = walk.y(), ix = walk.x();
      for (int64_t c = 0; c < x.c; c += kLanes)
        transform_patch<F>(x_sample + iy * x.row() + ix * x.c + c, x.row(), x.c,
                           patches + block.windows * stride(x.c) + c, place(x.c));
      for (int64_t o = 0; o < d.c; o += kLanes)
        transform_gradient<F>(d_sample + d.at(0, iy, ix) + o, d.row(), d.c, walk.row - iy, walk.column - ix,
                              gradients + block.windows * stride(d.c) + o, place(d.c));
      if (++block.windows == kGradientWindows) add_block(block, sums);
      walk.step();
    }
  }

  // sums (kAll,x.c,d.c) += patches^T gradients (or = for the first), and the block is empty.
  void add_block(Block& block, float* sums) const {
    if (block.windows == 0 && !block.first) return;
    const float *patches = block.at, *gradients = block.at + kAll * place(x.c);
    for (int64_t i = 0; i < kAll; ++i)
      for_each_panel(d.c, [&](auto vecs, int64_t first) MNIST100_LAMBDA_INLINE {
        for_each_run<kPixels>(x.c, [&](auto count, int64_t c) MNIST100_LAMBDA_INLINE {
          Tile<decltype(count)::value, decltype(vecs)::value> tile;
          tile.clear();
          tile.add_product(block.windows, patches + i * place(x.c) + c, 1, stride(x.c),
                           gradients + i * place(d.c) + first, stride(d.c));
          float* to = sums + (i * x.c + c) * d.c + first;
          if (block.first)
            tile.store_to(to, d.c);
          else
            tile.add_to(to, d.c);
        });
      });
    block = {block.at, 0, false};
  }

  // dw (oc,x.c,3,3) from the sums of all samples. Returns false if a result is not finite: then it has to be
  // computed in another way, for one such input spoils taps here that it does not meet.
  bool write(int64_t oc, const float* sums, float* dw) const {
    const int64_t place = x.c * d.c;
    Vec spoilt = {};
    for (int64_t c = 0; c < x.c; ++c)
      for (int64_t o = 0; o < oc; o += kLanes) {
        const float* m = sums + c * d.c + o;
        Vec rows[3][F::kIn], taps[9];
#pragma GCC unroll 6
        for (int j = 0; j < F::kIn; ++j) {
          Vec column[F::kIn], g[3];
#pragma GCC unroll 6
          for (int i = 0; i < F::kIn; ++i) column[i] = load(m + (F::kIn * i + j) * place);
          F::taps(column, g);
#pragma GCC unroll 3
          for (int i = 0; i < 3; ++i) rows[i][j] = g[i];
        }
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) {
          Vec g[3];
          F::taps(rows[i], g);
#pragma GCC unroll 3
          for (int j = 0; j < 3; ++j) taps[3 * i + j] = g[j];
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
