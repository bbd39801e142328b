// NCHW at the edges of a network, zero-padded NHWC between its conv blocks.
#include "ops.h"
#include "transpose.h"

namespace mnist100::MNIST100_ISA {

void pad_sample(const PaddedShape& s, const float* x, float* y) {
  zero_border(s, y);
  for (int64_t iy = 0; iy < s.h; ++iy)
    transpose_matrix(s.c, s.w, x + iy * s.w, s.h * s.w, y + s.at(0, iy, 0), s.c);
}

void unpad_sample(const PaddedShape& s, const float* x, float* y) {
  for (int64_t iy = 0; iy < s.h; ++iy)
    transpose_matrix(s.w, s.c, x + s.at(0, iy, 0), s.c, y + iy * s.w, s.h * s.w);
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
