// NCHW at the edges of a network, zero-padded NHWC between its conv blocks.
#include "ops.h"

namespace mnist100::MNIST100_ISA {

void pad_sample(const PaddedShape& s, const float* x, float* y) {
  __builtin_memset(y, 0, sizeof(float) * static_cast<size_t>(s.sample()));
  for (int64_t iy = 0; iy < s.h; ++iy) {
    float* pixel = y + s.at(0, iy, 0);
    for (int64_t ix = 0; ix < s.w; ++ix, pixel += s.c)
      for (int64_t c = 0; c < s.c; ++c) pixel[c] = x[(c * s.h + iy) * s.w + ix];
  }
}

void unpad_sample(const PaddedShape& s, const float* x, float* y) {
  for (int64_t iy = 0; iy < s.h; ++iy) {
    const float* pixel = x + s.at(0, iy, 0);
    for (int64_t ix = 0; ix < s.w; ++ix, pixel += s.c)
      for (int64_t c = 0; c < s.c; ++c) y[(c * s.h + iy) * s.w + ix] = pixel[c];
  }
}

void pad_nhwc(const PaddedShape& s, const float* x, float* y, int threads) {
  parallel_for(s.n, threads,
               [&](int64_t n, int) { pad_sample(s, x + n * s.c * s.h * s.w, y + n * s.sample()); });
}

void unpad_nhwc(const PaddedShape& s, const float* x, float* y, int threads) {
  parallel_for(s.n, threads,
               [&](int64_t n, int) { unpad_sample(s, x + n * s.sample(), y + n * s.c * s.h * s.w); });
}

}  // namespace mnist100::MNIST100_ISA
