// Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray, "Fast Algorithms for Convolutional Neural
// Networks", 2015): Y = A^T [(G g G^T) . (B^T d B)] A takes 16 products where the sum over 3x3 taps takes
// 36, for a 2x2 window of results, one pooling window of a conv block.
//
//   B^T = |1  0 -1  0|   G = | 1    0    0  |   A^T = |1 1  1  0|
//         |0  1  1  0|       | 1/2  1/2  1/2|         |0 1 -1 -1|
//         |0 -1  1  0|       | 1/2 -1/2  1/2|
//         |0  1  0 -1|       | 0    0    1  |
#pragma once

#include "conv_tile.h"
#include "window.h"

namespace mnist100 {
namespace {

// Windows a tile: 14 are a pooled row of the second convolution here, and 14 x 2 accumulators + 2 + 1
// fill the 32 registers of AVX-512.
constexpr int kWindows = kVectorBytes == 64 ? 14 : 6;

// `c` is a whole number of vectors, as is `oc`, and so panels are as in Correlation:
// panel p of the transformed weights lies at weights + p * kCols * 16 * c as [16][c][width].
struct Winograd {
  int64_t c, oc;
  const float* weights;
  const float* bias;  // (oc), or null

  MNIST100_INLINE static int64_t weights_size(int64_t c, int64_t oc) { return 16 * c * oc; }
  MNIST100_INLINE static int64_t scratch_size(int64_t c) { return 16 * kWindows * (c + kCols); }
};

// packed: the weights as pack_weights leaves them.
void transform_weights(const Correlation& f, const float* packed, float* dst) {
  for_each_panel(f.oc, [&](auto vecs, int64_t first) {
    constexpr int64_t kWidth = decltype(vecs)::value * kLanes;
    for (int64_t at = 0; at < f.c * kWidth; at += kLanes) {
      Vec g[3][3], rows[4][3];
      for (int i = 0; i < 9; ++i) g[i / 3][i % 3] = load(packed + first * f.taps() + i * f.c * kWidth + at);
      for (int j = 0; j < 3; ++j) {
        rows[0][j] = g[0][j];
        rows[1][j] = 0.5f * ((g[0][j] + g[2][j]) + g[1][j]);
        rows[2][j] = 0.5f * ((g[0][j] + g[2][j]) - g[1][j]);
        rows[3][j] = g[2][j];
      }
      float* to = dst + first * 16 * f.c + at;
      for (int i = 0; i < 4; ++i) {
        store(to + (4 * i + 0) * f.c * kWidth, rows[i][0]);
        store(to + (4 * i + 1) * f.c * kWidth, 0.5f * ((rows[i][0] + rows[i][2]) + rows[i][1]));
        store(to + (4 * i + 2) * f.c * kWidth, 0.5f * ((rows[i][0] + rows[i][2]) - rows[i][1]));
        store(to + (4 * i + 3) * f.c * kWidth, rows[i][2]);
      }
    }
  });
}

// The 4x4 patch at x, channels one vector -> dst[16 places, `place` floats apart].
MNIST100_INLINE void transform_patch(const float* x, int64_t x_row, int64_t c, float* dst, int64_t place) {
  Vec rows[4][4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const Vec d0 = load(x + j * c), d1 = load(x + x_row + j * c), d2 = load(x + 2 * x_row + j * c),
              d3 = load(x + 3 * x_row + j * c);
    rows[0][j] = d0 - d2;
    rows[1][j] = d1 + d2;
    rows[2][j] = d2 - d1;
    rows[3][j] = d1 - d3;
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    store(dst + (4 * i + 0) * place, rows[i][0] - rows[i][2]);
    store(dst + (4 * i + 1) * place, rows[i][1] + rows[i][2]);
    store(dst + (4 * i + 2) * place, rows[i][2] - rows[i][1]);
    store(dst + (4 * i + 3) * place, rows[i][1] - rows[i][3]);
  }
}

// A^T m A of one window, 16 places `place` floats apart.
MNIST100_INLINE Window untransformed(const float* m, int64_t place) {
  Vec left[4], right[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const float* at = m + 4 * i * place;
    const Vec m1 = load(at + place), m2 = load(at + 2 * place);
    left[i] = (load(at) + m1) + m2;
    right[i] = (m1 - m2) - load(at + 3 * place);
  }
  return {(left[0] + left[1]) + left[2], (right[0] + right[1]) + right[2], (left[1] - left[2]) - left[3],
          (right[1] - right[2]) - right[3]};
}

// First row and column of a window.
struct Corner {
  int64_t y, x;
};

// `windows` windows, their corners by next(); those of (y, x) have their patch at x + y * x_row + x * c.
// Calls finish(corner, first channel, results) for each vector of channels. Returns false if a result was
// not finite: then they have to be computed in another way, for one such input spoils a whole patch here.
template <class Next, class Finish>
MNIST100_INLINE bool winograd(const Winograd& f, int64_t windows, const float* x, int64_t x_row,
                              float* scratch_block, Next next, Finish finish) {
  float* patches = scratch_block;                         // [16][size][c]
  float* products = scratch_block + 16 * kWindows * f.c;  // [16][size][width]
  Vec spoilt = {};
  for_each_run<kWindows>(windows, [&](auto count, int64_t) MNIST100_LAMBDA_INLINE {
    constexpr int kSize = decltype(count)::value;
    Corner corners[kSize];
    for (int64_t i = 0; i < kSize; ++i) {
      corners[i] = next();
      const float* patch = x + corners[i].y * x_row + corners[i].x * f.c;
      for (int64_t c = 0; c < f.c; c += kLanes) {
        // Two of the four rows that the windows below read, while the products leave the memory idle.
        const float* below = patch + 4 * x_row + c;
        __builtin_prefetch(below);
        __builtin_prefetch(below + f.c);
        __builtin_prefetch(below + x_row);
        __builtin_prefetch(below + x_row + f.c);
        transform_patch(patch + c, x_row, f.c, patches + i * f.c + c, kSize * f.c);
      }
    }
    for_each_panel(f.oc, [&](auto vecs, int64_t first) MNIST100_LAMBDA_INLINE {
      constexpr int kV = decltype(vecs)::value;
      constexpr int64_t kWidth = kV * kLanes;
      const float* weights = f.weights + first * 16 * f.c;
      for (int64_t place = 0; place < 16; ++place) {
        Tile<kSize, kV> tile;
        tile.clear();
        tile.add_product(f.c, patches + place * kSize * f.c, f.c, 1, weights + place * f.c * kWidth, kWidth);
        // Place (1, 1) enters all four results with a factor of one.
        if (place == 5 && f.bias) tile.add_row(f.bias + first);
        tile.store_to(products + place * kSize * kWidth, kWidth);
      }
      for (int64_t i = 0; i < kSize; ++i)
        for (int v = 0; v < kV; ++v) {
          const Window w = untransformed(products + i * kWidth + v * kLanes, kSize * kWidth);
          w.add_to(spoilt);
          finish(corners[i], first + v * kLanes, w);
        }
    });
  });
  return !is_spoilt(spoilt);
}

}  // namespace
}  // namespace mnist100
