// Max-pooling of any window, stride and padding, and its scatter back.
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

// The first largest number wins; a NaN beats everything, as in PyTorch.
bool beats(float candidate, float best) { return candidate > best || candidate != candidate; }

void pool_plane(const Pool2dShape& s, const float* x, float* y, int32_t* argmax) {
  for (int64_t oy = 0; oy < s.oh(); ++oy)
    for (int64_t ox = 0; ox < s.ow(); ++ox) {
      const int64_t top = max_of(0, oy * s.sh - s.ph);
      const int64_t left = max_of(0, ox * s.sw - s.pw);
      const int64_t bottom = min_of(s.h, oy * s.sh - s.ph + s.kh);
      const int64_t right = min_of(s.w, ox * s.sw - s.pw + s.kw);
      int64_t best = top * s.w + left;
      for (int64_t iy = top; iy < bottom; ++iy)
        for (int64_t at = iy * s.w + left; at < iy * s.w + right; ++at)
          if (beats(x[at], x[best])) best = at;
      *y++ = x[best];
      *argmax++ = static_cast<int32_t>(best);
    }
}

}  // namespace

void max_pool2d(const Pool2dShape& s, const float* x, float* y, int32_t* argmax, int threads) {
  const int64_t out = s.oh() * s.ow();
  parallel_ranges(s.n * s.c, 16, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) pool_plane(s, x + i * s.h * s.w, y + i * out, argmax + i * out);
  });
}

void max_pool2d_backward(const Pool2dShape& s, const float* dy, const int32_t* argmax, float* dx,
                         int threads) {
  const int64_t out = s.oh() * s.ow();
  const int64_t in = s.h * s.w;
  parallel_ranges(s.n * s.c, 16, threads, [&](int64_t begin, int64_t end) {
    __builtin_memset(dx + begin * in, 0, sizeof(float) * static_cast<size_t>((end - begin) * in));
    for (int64_t i = begin; i < end; ++i)
      for (int64_t o = i * out; o < (i + 1) * out; ++o) dx[i * in + argmax[o]] += dy[o];
  });
}

}  // namespace mnist100::MNIST100_ISA
