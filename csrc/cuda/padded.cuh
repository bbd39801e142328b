// Padded NHWC in int, as kernels here count.
#pragma once

#include "divisor.cuh"

namespace mnist100::cuda {

struct PaddedPlace {
  int n, y, x, c;  // y and x counted from the interior
};

class PaddedSizes {
 public:
  int c, h, w, bh, bw;

  explicit PaddedSizes(const PaddedShape& s)
      : c(static_cast<int>(s.c)),
        h(static_cast<int>(s.h)),
        w(static_cast<int>(s.w)),
        bh(static_cast<int>(s.bh)),
        bw(static_cast<int>(s.bw)),
        by_c_(c),
        by_w_(w),
        by_h_(h),
        by_width_(width()),
        by_height_(height()) {}

  __host__ __device__ int width() const { return w + 2 * bw; }
  __host__ __device__ int height() const { return h + 2 * bh; }

  // First channel of a pixel.
  __device__ int at(int n, int y, int x) const { return ((n * height() + y + bh) * width() + x + bw) * c; }

  // Of element i of the array.
  __device__ PaddedPlace place(int i) const {
    PaddedPlace p = split(i, by_width_, by_height_);
    p.y -= bh;
    p.x -= bw;
    return p;
  }

  // Of element i of the interior, in the same order.
  __device__ PaddedPlace interior(int i) const { return split(i, by_w_, by_h_); }

  // Of element i of images (n,c,h,w).
  __device__ PaddedPlace plane_place(int i) const {
    const int row = by_w_.quotient(i), plane = by_h_.quotient(row), n = by_c_.quotient(plane);
    return {n, row - plane * h, i - row * w, plane - n * c};
  }

  __device__ bool inside(const PaddedPlace& p) const { return p.y >= 0 && p.y < h && p.x >= 0 && p.x < w; }

 private:
  __device__ PaddedPlace split(int i, const Divisor& across, const Divisor& down) const {
    const int pixel = by_c_.quotient(i), row = across.quotient(pixel), n = down.quotient(row);
    return {n, row - n * down.by(), pixel - row * across.by(), i - pixel * c};
  }

  Divisor by_c_, by_w_, by_h_, by_width_, by_height_;
};

}  // namespace mnist100::cuda
