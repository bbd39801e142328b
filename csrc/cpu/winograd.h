// 3x3 convolution by Winograd's minimal filtering, Y = A^T [(G g G^T) . (B^T d B)] A (winograd_lines.h), a
// window of F::kOut x F::kOut results at a time.
#pragma once

#include "conv_tile.h"
#include "winograd_lines.h"

namespace mnist100 {
namespace {

// Windows a tile: 14 x 2 accumulators + 2 + 1 fill the 32 registers of AVX-512, and 14 windows of F2 are a
// pooled row of the second convolution here.
constexpr int kWindows = kVectorBytes == 64 ? 14 : 6;

template <class F>
constexpr int kPlaces = F::kIn * F::kIn;  // products of a window

// `c` is a whole number of vectors, as is `oc`, and so panels are as in Correlation:
// panel p of the transformed weights lies at weights + p * kCols * kPlaces * c as [place][c][width].
template <class F>
struct Winograd {
  int64_t c, oc;
  const float* weights;
  const float* bias;  // (oc), or null; not added if F has no point 1

  MNIST100_INLINE static int64_t weights_size(int64_t c, int64_t oc) { return kPlaces<F> * c * oc; }
  MNIST100_INLINE static int64_t scratch_size(int64_t c) { return kPlaces<F> * kWindows * (c + kCols); }
};

// packed: the weights as pack_weights leaves them.
template <class F>
void transform_weights(const Correlation& f, const float* packed, float* dst) {
  for_each_panel(f.oc, [&](auto vecs, int64_t first) {
    constexpr int64_t kWidth = decltype(vecs)::value * kLanes;
    for (int64_t at = 0; at < f.c * kWidth; at += kLanes) {
      Vec columns[3][F::kIn];
      for (int j = 0; j < 3; ++j) {
        Vec g[3];
        for (int i = 0; i < 3; ++i) g[i] = load(packed + first * f.taps() + (3 * i + j) * f.c * kWidth + at);
        F::kernel(g, columns[j]);
      }
      for (int i = 0; i < F::kIn; ++i) {
        const Vec g[3] = {columns[0][i], columns[1][i], columns[2][i]};
        Vec u[F::kIn];
        F::kernel(g, u);
        for (int j = 0; j < F::kIn; ++j)
          store(dst + first * kPlaces<F> * f.c + (F::kIn * i + j) * f.c * kWidth + at, u[j]);
      }
    }
  });
}

// The patch at x, channels one vector -> dst[places, `place` floats apart].
template <class F>
MNIST100_INLINE void transform_patch(const float* x, int64_t x_row, int64_t c, float* dst, int64_t place) {
  Vec rows[F::kIn][F::kIn];
#pragma GCC unroll 6
  for (int j = 0; j < F::kIn; ++j) {
    Vec d[F::kIn], v[F::kIn];
#pragma GCC unroll 6
    for (int i = 0; i < F::kIn; ++i) d[i] = load(x + i * x_row + j * c);
    F::patch(d, v);
#pragma GCC unroll 6
    for (int i = 0; i < F::kIn; ++i) rows[i][j] = v[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < F::kIn; ++i) {
    Vec v[F::kIn];
    F::patch(rows[i], v);
#pragma GCC unroll 6
    for (int j = 0; j < F::kIn; ++j) store(dst + (F::kIn * i + j) * place, v[j]);
  }
}

// The same, called where inlining would copy much code into every size of tile.
template <class F>
__attribute__((noinline)) void transform_patch_apart(const float* x, int64_t x_row, int64_t c, float* dst,
                                                     int64_t place) {
  transform_patch<F>(x, x_row, c, dst, place);
}

// The results of one window.
template <class F>
struct Results {
  Vec at[F::kOut][F::kOut];

  // A^T m A, places `place` floats apart.
  MNIST100_INLINE Results(const float* m, int64_t place) {
    Vec columns[F::kOut][F::kIn];
#pragma GCC unroll 6
    for (int i = 0; i < F::kIn; ++i) {
      Vec row[F::kIn], y[F::kOut];
#pragma GCC unroll 6
      for (int j = 0; j < F::kIn; ++j) row[j] = load(m + (F::kIn * i + j) * place);
      F::result(row, y);
#pragma GCC unroll 4
      for (int j = 0; j < F::kOut; ++j) columns[j][i] = y[j];
    }
#pragma GCC unroll 4
    for (int j = 0; j < F::kOut; ++j) {
      Vec y[F::kOut];
      F::result(columns[j], y);
#pragma GCC unroll 4
      for (int i = 0; i < F::kOut; ++i) at[i][j] = y[i];
    }
  }

  // `spoilt` is 0 for as long as all results were finite: an infinity or a NaN makes it NaN for good.
  MNIST100_INLINE void add_to(Vec& spoilt) const {
    Vec sum = {};
#pragma GCC unroll 4
    for (int i = 0; i < F::kOut; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < F::kOut; j += 2) sum += at[i][j] + at[i][j + 1];
    spoilt += sum * 0.0f;
  }
};

// `windows` windows, whose patches next() gives: an object with `patch`, where the patch begins in an image
// of rows of x_row floats. Calls finish(that object, first channel, results) for each vector of channels.
// Returns false if a result was not finite: then they have to be computed in another way, for one such input
// spoils a whole patch here.
template <class F, class Next, class Finish>
MNIST100_INLINE bool winograd(const Winograd<F>& f, int64_t windows, int64_t x_row, float* scratch_block,
                              Next next, Finish finish) {
  constexpr int kAll = kPlaces<F>;
  float* patches = scratch_block;                           // [place][size][c]
  float* products = scratch_block + kAll * kWindows * f.c;  // [place][size][width]
  Vec spoilt = {};
  for_each_run<kWindows>(windows, [&](auto count, int64_t) MNIST100_LAMBDA_INLINE {
    constexpr int kSize = decltype(count)::value;
    decltype(next()) places[kSize];
    for (int64_t i = 0; i < kSize; ++i) {
      places[i] = next();
      const float* patch = places[i].patch;
      for (int64_t c = 0; c < f.c; c += kLanes) {
        // Two of the rows that the windows below read, while the products leave the memory idle.
        const float* below = patch + F::kIn * x_row + c;
        __builtin_prefetch(below);
        __builtin_prefetch(below + f.c);
        __builtin_prefetch(below + x_row);
        __builtin_prefetch(below + x_row + f.c);
        if constexpr (F::kIn > 4)
          transform_patch_apart<F>(patch + c, x_row, f.c, patches + i * f.c + c, kSize * f.c);
        else
          transform_patch<F>(patch + c, x_row, f.c, patches + i * f.c + c, kSize * f.c);
      }
    }
    for_each_panel(f.oc, [&](auto vecs, int64_t first) MNIST100_LAMBDA_INLINE {
      constexpr int kV = decltype(vecs)::value;
      constexpr int64_t kWidth = kV * kLanes;
      const float* weights = f.weights + first * kAll * f.c;
      for (int64_t place = 0; place < kAll; ++place) {
        Tile<kSize, kV> tile;
        tile.clear();
        tile.add_product(f.c, patches + place * kSize * f.c, f.c, 1, weights + place * f.c * kWidth, kWidth);
        if constexpr (F::kOne >= 0)
          if (place == F::kIn * F::kOne + F::kOne && f.bias) tile.add_row(f.bias + first);
        tile.store_to(products + place * kSize * kWidth, kWidth);
      }
      for (int64_t i = 0; i < kSize; ++i)
        for (int v = 0; v < kV; ++v) {
          finish(places[i], first + v * kLanes, products + i * kWidth + v * kLanes, kSize * kWidth, spoilt);
        }
    });
  });
  return !is_spoilt(spoilt);
}

}  // namespace
}  // namespace mnist100
