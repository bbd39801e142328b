// The weight gradient that belongs to Winograd's F(2x2, 3x3), by differentiating it: with Y = A^T [(G g G^T)
// . (B^T d B)] A, dg = G^T [sum over windows of (A dY A^T) . (B^T d B)] G. 16 products a window where the sum
// over its pixels and taps takes 36. Matrices: winograd.h.
#pragma once

#include "winograd.h"

namespace mnist100 {
namespace {

// Windows whose products are added up in registers before they meet the sums, which for wide layers do not
// fit a core's caches. Patches and gradients are 16 * 56 * 4 bytes a channel.
constexpr int64_t kGradientWindows = 56;

// Sums are 16 * 4 bytes for each pair of channels: 256 windows at least share them, unless that leaves fewer
// than 8 chunks for the threads.
constexpr int64_t kWindowsOfSums = 256, kLeastChunks = 8;

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

  // Transformed windows of one worker that are not yet in its sums.
  struct Block {
    float* at;
    int64_t windows;
    bool first;  // nothing is in the sums yet
  };

  int64_t across() const { return ceil_div(x.w, 2); }
  int64_t windows() const { return across() * ceil_div(x.h, 2); }
  // Chunks into which n samples are cut at most.
  int64_t chunks(int64_t n) const { return max_of(kLeastChunks, n * windows() / kWindowsOfSums); }
  int64_t sums() const { return 16 * x.c * d.c; }

  // Floats from one window to the next, an odd number of cache lines: those that one product reads then lie
  // in different sets of the cache.
  static int64_t stride(int64_t channels) { return 16 * (ceil_div(channels, 16) | 1); }
  static int64_t place(int64_t channels) { return kGradientWindows * stride(channels); }
  int64_t scratch_floats() const { return 16 * (place(x.c) + place(d.c)); }

  // Adds one sample to the block, and the block to sums (16,x.c,d.c) whenever it is full.
  void add_sample(const float* x_sample, const float* d_sample, Block& block, float* sums) const {
    float *patches = block.at, *gradients = block.at + 16 * place(x.c);
    int64_t row = 0, column = 0;
    for (int64_t left = windows(); left > 0; --left) {
      // Of an odd size, the last two rows or columns share one with those before.
      const int64_t iy = min_of(row, x.h - 2), ix = min_of(column, x.w - 2);
      for (int64_t c = 0; c < x.c; c += kLanes)
        transform_patch(x_sample + iy * x.row() + ix * x.c + c, x.row(), x.c,
                        patches + block.windows * stride(x.c) + c, place(x.c));
      for (int64_t o = 0; o < d.c; o += kLanes)
        transform_gradient(d_sample + d.at(0, iy, ix) + o, d.row(), d.c, iy < row, ix < column,
                           gradients + block.windows * stride(d.c) + o, place(d.c));
      if (++block.windows == kGradientWindows) add_block(block, sums);
      column += 2;
      if (column >= x.w) {
        column = 0;
        row += 2;
      }
    }
  }

  // sums (16,x.c,d.c) += patches^T gradients (or = for the first), and the block is empty.
  void add_block(Block& block, float* sums) const {
    if (block.windows == 0 && !block.first) return;
    const float *patches = block.at, *gradients = block.at + 16 * place(x.c);
    for (int64_t i = 0; i < 16; ++i)
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
