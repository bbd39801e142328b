// im2col and col2im: rows are output pixels (n,oh,ow), columns are taps (c,kh,kw).
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

// Taps of one kernel row that fall inside the image: kx in [first, last) for a window starting at ix.
struct Inside {
  int64_t first, last;
};

Inside inside(int64_t ix, int64_t kernel, int64_t width) {
  const int64_t first = min_of(kernel, max_of(0, -ix));
  return {first, max_of(first, min_of(kernel, width - ix))};
}

}  // namespace

void im2col_sample(const Conv2dShape& s, const float* x, float* cols) {
  for (int64_t oy = 0; oy < s.oh(); ++oy)
    for (int64_t ox = 0; ox < s.ow(); ++ox) {
      const int64_t ix = ox * s.sw - s.pw;
      const Inside run = inside(ix, s.kw, s.w);
      for (int64_t c = 0; c < s.c; ++c)
        for (int64_t ky = 0; ky < s.kh; ++ky, cols += s.kw) {
          const int64_t iy = oy * s.sh - s.ph + ky;
          const bool row_inside = iy >= 0 && iy < s.h;
          const float* row = x + (c * s.h + (row_inside ? iy : 0)) * s.w;
          const int64_t first = row_inside ? run.first : s.kw;
          const int64_t last = row_inside ? run.last : s.kw;
          for (int64_t kx = 0; kx < first; ++kx) cols[kx] = 0;
          for (int64_t kx = first; kx < last; ++kx) cols[kx] = row[ix + kx];
          for (int64_t kx = last; kx < s.kw; ++kx) cols[kx] = 0;
        }
    }
}

void col2im_sample(const Conv2dShape& s, const float* cols, float* dx) {
  for (int64_t oy = 0; oy < s.oh(); ++oy)
    for (int64_t ox = 0; ox < s.ow(); ++ox) {
      const int64_t ix = ox * s.sw - s.pw;
      const Inside run = inside(ix, s.kw, s.w);
      for (int64_t c = 0; c < s.c; ++c)
        for (int64_t ky = 0; ky < s.kh; ++ky, cols += s.kw) {
          const int64_t iy = oy * s.sh - s.ph + ky;
          if (iy < 0 || iy >= s.h) continue;
          float* row = dx + (c * s.h + iy) * s.w;
          for (int64_t kx = run.first; kx < run.last; ++kx) row[ix + kx] += cols[kx];
        }
    }
}

void im2col(const Conv2dShape& s, const float* x, float* cols, int threads) {
  const int64_t out = s.oh() * s.ow() * s.c * s.kh * s.kw;
  parallel_for(s.n, threads,
               [&](int64_t n, int) { im2col_sample(s, x + n * s.c * s.h * s.w, cols + n * out); });
}

void col2im(const Conv2dShape& s, const float* cols, float* dx, int threads) {
  const int64_t in = s.oh() * s.ow() * s.c * s.kh * s.kw;
  const int64_t image = s.c * s.h * s.w;
  parallel_for(s.n, threads, [&](int64_t n, int) {
    __builtin_memset(dx + n * image, 0, sizeof(float) * static_cast<size_t>(image));
    col2im_sample(s, cols + n * in, dx + n * image);
  });
}

}  // namespace mnist100::MNIST100_ISA
