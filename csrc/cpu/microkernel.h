// The register tile under every matrix product here.
#pragma once

#include "simd.h"

namespace mnist100 {
namespace {

// Tile of kRows x (kVecs vectors). Each k-step is kRows * kVecs FMAs on kVecs loads and kRows
// broadcasts; the accumulators must cover FMA latency x FMA ports (4 x 2 on current x86) and leave
// room for kVecs + 1 operands in 16 registers (32 with AVX-512): 6 x 2 + 3 = 15, 12 x 2 + 3 = 27.
constexpr int kRows = kVectorBytes == 64 ? 12 : 6;
constexpr int kVecs = 2;
constexpr int kCols = kVecs * kLanes;

template <int R, int V>
struct Tile {
  Vec at[R][V];

  MNIST100_INLINE void clear() {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) at[i][j] = Vec{};
  }

  // at[i][:] += sum over k of a[i * row_stride + k * step] * b[k * b_stride + :].
  MNIST100_INLINE void add_product(int64_t depth, const float* a, int64_t row_stride, int64_t step,
                                   const float* b, int64_t b_stride) {
    for (int64_t k = 0; k < depth; ++k) add_step(a + k * step, row_stride, b + k * b_stride);
  }

  // The same, and keeps the rows of b as a panel: packed[k * V * kLanes + :].
  MNIST100_INLINE void add_product_packing(int64_t depth, const float* a, int64_t row_stride, int64_t step,
                                           const float* b, int64_t b_stride, float* packed) {
    for (int64_t k = 0; k < depth; ++k) {
      Vec bk[V];
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) {
        bk[j] = load(b + k * b_stride + j * kLanes);
        store(packed + (k * V + j) * kLanes, bk[j]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const Vec ai = splat(a[i * row_stride + k * step]);
#pragma GCC unroll 4
        for (int j = 0; j < V; ++j) at[i][j] += ai * bk[j];
      }
    }
  }

  // The same for a packed b, asking for the line at ahead[k * ahead_step] with every k.
  MNIST100_INLINE void add_product_ahead(int64_t depth, const float* a, int64_t row_stride, int64_t step,
                                         const float* b, const float* ahead, int64_t ahead_step) {
    for (int64_t k = 0; k < depth; ++k) {
      __builtin_prefetch(ahead + k * ahead_step, 0, 2);
      add_step(a + k * step, row_stride, b + k * V * kLanes);
    }
  }

  // at[i][:] += a[i * row_stride] * b[:]. Rows are addressed from every third: no, one and two
  // strides are what an address can hold, so that their distances do not spill.
  MNIST100_INLINE void add_step(const float* a, int64_t row_stride, const float* b) {
    Vec bk[V];
#pragma GCC unroll 4
    for (int j = 0; j < V; ++j) bk[j] = load(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      if (i > 0 && i % 3 == 0) a += 3 * row_stride;
      const Vec ai = splat(a[i % 3 * row_stride]);
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) at[i][j] += ai * bk[j];
    }
  }

  MNIST100_INLINE void add_row(const float* row) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) at[i][j] += load(row + j * kLanes);
  }

  MNIST100_INLINE void clip_negative() {  // a NaN is kept
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) at[i][j] = at[i][j] < Vec{} ? Vec{} : at[i][j];
  }

  MNIST100_INLINE void store_to(float* c, int64_t stride) const {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) store(c + i * stride + j * kLanes, at[i][j]);
  }

  MNIST100_INLINE void add_to(float* c, int64_t stride) const {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) {
        float* at_c = c + i * stride + j * kLanes;
        store(at_c, load(at_c) + at[i][j]);
      }
  }
};

template <int N>
struct Count {
  static constexpr int value = N;
};

// Calls f(Count<rows>) for 1 <= rows <= Max: a run-time remainder becomes a compile-time tile height.
template <int Max, class F>
MNIST100_INLINE void with_rows(int64_t rows, F f) {
  if constexpr (Max == 1) {
    f(Count<1>{});
  } else {
    if (rows == Max)
      f(Count<Max>{});
    else
      with_rows<Max - 1>(rows, f);
  }
}

}  // namespace
}  // namespace mnist100
