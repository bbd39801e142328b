// Windows of a convolution or a pool in int, as kernels here count.
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

// The windows, of `size` places and `step` apart, that hold a place of a padded line: from first to end.
struct Windows {
  int first, end;
};

__device__ inline Windows windows_over(int place, int size, int step, int count) {
  const int first = place < size ? 0 : (place - size) / step + 1;
  const int end = place / step + 1;
  return {first, end < count ? end : count};
}

struct Conv2dSizes {
  int c, h, w, oc, kh, kw, sh, sw, ph, pw, oh, ow;

  explicit Conv2dSizes(const Conv2dShape& s)
      : c(static_cast<int>(s.c)),
        h(static_cast<int>(s.h)),
        w(static_cast<int>(s.w)),
        oc(static_cast<int>(s.oc)),
        kh(static_cast<int>(s.kh)),
        kw(static_cast<int>(s.kw)),
        sh(static_cast<int>(s.sh)),
        sw(static_cast<int>(s.sw)),
        ph(static_cast<int>(s.ph)),
        pw(static_cast<int>(s.pw)),
        oh(static_cast<int>(s.oh())),
        ow(static_cast<int>(s.ow())) {}

  __host__ __device__ int columns() const { return c * kh * kw; }

  // What element (row, q) of the column matrix holds.
  __device__ float gathered(const float* x, int row, int q) const {
    const int iy = row / ow % oh * sh - ph + q / kw % kh, ix = row % ow * sw - pw + q % kw;
    if (iy < 0 || iy >= h || ix < 0 || ix >= w) return 0.0f;
    return x[((static_cast<int64_t>(row / (ow * oh)) * c + q / (kw * kh)) * h + iy) * w + ix];
  }
};

}  // namespace mnist100::cuda
