// NCHW at the edges of a network, zero-padded NHWC between its conv blocks.
#include "ops.h"

namespace mnist100::MNIST100_ISA {

void pad_nhwc(const PaddedShape& s, const float* x, float* y, int threads) {
  parallel_for(s.n, threads, [&](int64_t n, int) {
    __builtin_memset(y + n * s.sample(), 0, sizeof(float) * static_cast<size_t>(s.sample()));
    const float* plane = x + n * s.c * s.h * s.w;
    for (int64_t iy = 0; iy < s.h; ++iy) {
      float* pixel = y + s.at(n, iy, 0);
      for (int64_t ix = 0; ix < s.w; ++ix, pixel += s.c)
        for (int64_t c = 0; c < s.c; ++c) pixel[c] = plane[(c * s.h + iy) * s.w + ix];
    }
  });
}

void unpad_nhwc(const PaddedShape& s, const float* x, float* y, int threads) {
  parallel_for(s.n, threads, [&](int64_t n, int) {
    float* plane = y + n * s.c * s.h * s.w;
    for (int64_t iy = 0; iy < s.h; ++iy) {
      const float* pixel = x + s.at(n, iy, 0);
      for (int64_t ix = 0; ix < s.w; ++ix, pixel += s.c)
        for (int64_t c = 0; c < s.c; ++c) plane[(c * s.h + iy) * s.w + ix] = pixel[c];
    }
  });
}

}  // namespace mnist100::MNIST100_ISA
