// Padded NHWC in int, as kernels here count.
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

struct PaddedPlace {
  int n, y, x, c;  // y and x counted from the interior
};

struct PaddedSizes {
  int c, h, w, bh, bw;

  explicit PaddedSizes(const PaddedShape& s)
      : c(static_cast<int>(s.c)),
        h(static_cast<int>(s.h)),
        w(static_cast<int>(s.w)),
        bh(static_cast<int>(s.bh)),
        bw(static_cast<int>(s.bw)) {}

  __host__ __device__ int width() const { return w + 2 * bw; }
  __host__ __device__ int height() const { return h + 2 * bh; }

  // First channel of a pixel.
  __device__ int at(int n, int y, int x) const { return ((n * height() + y + bh) * width() + x + bw) * c; }

  // Of element i of the array.
  __device__ PaddedPlace place(int i) const {
    return {i / (c * width() * height()), i / (c * width()) % height() - bh, i / c % width() - bw, i % c};
  }

  // Of element i of the interior, in the same order.
  __device__ PaddedPlace interior(int i) const {
    return {i / (c * w * h), i / (c * w) % h, i / c % w, i % c};
  }

  __device__ bool inside(const PaddedPlace& p) const { return p.y >= 0 && p.y < h && p.x >= 0 && p.x < w; }
};

}  // namespace mnist100::cuda
