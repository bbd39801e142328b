// im2col and col2im: rows are output pixels (n,oh,ow), columns are taps (c,kh,kw). Both go through a copy
// of one sample with its padding around it, in cache, where every window is inside.
#include "ops.h"
#include "shuffle.h"

namespace mnist100::MNIST100_ISA {
namespace {

// Runs of taps are a few floats long: four a step serve every instruction set.
typedef float Four __attribute__((vector_size(16)));
typedef float UnalignedFour __attribute__((vector_size(16), aligned(4), may_alias));

MNIST100_INLINE Four load_four(const float* p) { return *reinterpret_cast<const UnalignedFour*>(p); }
MNIST100_INLINE void store_four(float* p, Four v) { *reinterpret_cast<UnalignedFour*>(p) = v; }

// Short stores and loads keep too few cache lines on their way; asking 3 KiB ahead hides the way to memory.
constexpr int64_t kAhead = 768;

// One sample, padded: (c, h + 2 * ph, w + 2 * pw).
struct Padded {
  int64_t row, plane, size;

  explicit Padded(const Conv2dShape& s)
      : row(s.w + 2 * s.pw), plane((s.h + 2 * s.ph) * row), size(s.c * plane) {}

  int64_t at(const Conv2dShape& s, int64_t c, int64_t y) const {  // of x(c, y, 0)
    return c * plane + (y + s.ph) * row + s.pw;
  }
};

// Copies `kw` taps, in whole fours: up to three more are read and written.
MNIST100_INLINE void copy_taps(int64_t kw, const float* from, float* to) {
  for (int64_t k = 0; k < kw - 4; k += 4) store_four(to + k, load_four(from + k));
  const int64_t last = kw > 4 ? kw - 4 : 0;
  store_four(to + last, load_four(from + last));
}

// Row of the output pixel whose window starts at `window` of the first padded plane. Kh and Kw: the kernel
// if known at compile time, else 0. Sizes come by value: a store of fours could alias a reference.
template <int Kh, int Kw>
MNIST100_INLINE void copy_window(const Conv2dShape s, const Padded p, const float* window, float* cols) {
  const int64_t kh = Kh ? Kh : s.kh, kw = Kw ? Kw : s.kw;
  for (int64_t c = 0; c < s.c; ++c, window += p.plane)
#pragma GCC unroll 3
    for (int64_t ky = 0; ky < kh; ++ky, cols += kw) copy_taps(kw, window + ky * p.row, cols);
}

void copy_window_exactly(const Conv2dShape& s, const Padded& p, const float* window, float* cols) {
  for (int64_t c = 0; c < s.c; ++c, window += p.plane)
    for (int64_t ky = 0; ky < s.kh; ++ky)
      for (int64_t kx = 0; kx < s.kw; ++kx) *cols++ = window[ky * p.row + kx];
}

// Not inlined: the tight loop needs all registers.
template <int Kh, int Kw>
[[gnu::noinline]] void copy_windows(const Conv2dShape s, const Padded p, const float* padded, float* cols) {
  const int64_t oh = s.oh(), ow = s.ow(), taps = s.c * s.kh * s.kw;
  for (int64_t oy = 0; oy < oh; ++oy) {
    // What copy_taps writes beyond a row, the next rows overwrite; after the last three there may be none.
    const int64_t fast = max_of(0, min_of(ow, (oh - oy) * ow - 3));
    const float* window = padded + oy * s.sh * p.row;
    for (int64_t ox = 0; ox < fast; ++ox, window += s.sw, cols += taps) {
      prefetch<1>(cols + kAhead, taps);
      copy_window<Kh, Kw>(s, p, window, cols);
    }
    for (int64_t ox = fast; ox < ow; ++ox, window += s.sw, cols += taps)
      copy_window_exactly(s, p, window, cols);
  }
}

void add_window(const Conv2dShape& s, const Padded& p, const float* cols, float* window) {
  for (int64_t c = 0; c < s.c; ++c, window += p.plane)
    for (int64_t ky = 0; ky < s.kh; ++ky, cols += s.kw)
      for (int64_t kx = 0; kx < s.kw; ++kx) window[ky * p.row + kx] += cols[kx];
}

// Adds three taps of each of four neighbouring pixels, `taps` apart, to the six places that they share.
// Reads one float more than three, and adds zeros to the last two of eight places.
MNIST100_INLINE void add_threes(int64_t taps, const float* cols, float* to) {
  const Four none = {};
  const Four a = load_four(cols), b = load_four(cols + taps);
  const Four c = load_four(cols + 2 * taps), d = load_four(cols + 3 * taps);
  const Four low_a = __builtin_shufflevector(a, none, 0, 1, 2, 4),
             low_b = __builtin_shufflevector(b, none, 4, 0, 1, 2);
  const Four low_c = __builtin_shufflevector(none, c, 0, 1, 4, 5),
             low_d = __builtin_shufflevector(none, d, 0, 1, 2, 4);
  const Four high_c = __builtin_shufflevector(c, none, 2, 4, 4, 4),
             high_d = __builtin_shufflevector(d, none, 1, 2, 4, 4);
  store_four(to, load_four(to) + ((low_a + low_b) + (low_c + low_d)));
  store_four(to + 4, load_four(to + 4) + (high_c + high_d));
}

// Rows of output pixels of a kernel three wide with stride 1, four pixels a step. A step's lines are asked
// for a few at a time: all at once they would wait for each other.
[[gnu::noinline]] void add_windows_of_three(const Conv2dShape s, const Padded p, const float* cols,
                                            float* padded) {
  const int64_t ow = s.ow(), taps = s.c * s.kh * 3;
  for (int64_t oy = 0; oy < s.oh(); ++oy) {
    const int64_t fours = (oy + 1 < s.oh() ? ow : ow - 1) / 4 * 4;  // no read beyond the last pixel
    float* row = padded + oy * s.sh * p.row;
    for (int64_t ox = 0; ox < fours; ox += 4, cols += 3 * taps) {
      const float* ahead = cols + max_of(kAhead, 4 * taps);
      float* window = row + ox;
      for (int64_t c = 0; c < s.c; ++c, window += p.plane, ahead += 12 * s.kh) {
        prefetch<0>(ahead, 12 * s.kh);
        for (int64_t ky = 0; ky < s.kh; ++ky, cols += 3) add_threes(taps, cols, window + ky * p.row);
      }
    }
    for (int64_t ox = fours; ox < ow; ++ox, cols += taps) add_window(s, p, cols, row + ox);
  }
}

void add_windows(const Conv2dShape& s, const Padded& p, const float* cols, float* padded) {
  const int64_t taps = s.c * s.kh * s.kw;
  for (int64_t oy = 0; oy < s.oh(); ++oy)
    for (int64_t ox = 0; ox < s.ow(); ++ox, cols += taps)
      add_window(s, p, cols, padded + oy * s.sh * p.row + ox * s.sw);
}

}  // namespace

int64_t columns_scratch(const Conv2dShape& s) {
  return round_up(Padded(s).size + 4, 16);  // 4: what is read or written in fours at the end
}

void im2col_sample(const Conv2dShape& s, const float* x, float* cols, float* scratch_block) {
  const Padded p(s);
  __builtin_memset(scratch_block, 0, sizeof(float) * static_cast<size_t>(columns_scratch(s)));
  for (int64_t c = 0; c < s.c; ++c)
    for (int64_t y = 0; y < s.h; ++y)
      __builtin_memcpy(scratch_block + p.at(s, c, y), x + (c * s.h + y) * s.w,
                       sizeof(float) * static_cast<size_t>(s.w));
  if (s.kh == 3 && s.kw == 3)
    copy_windows<3, 3>(s, p, scratch_block, cols);
  else
    copy_windows<0, 0>(s, p, scratch_block, cols);
}

void col2im_sample(const Conv2dShape& s, const float* cols, float* dx, float* scratch_block) {
  const Padded p(s);
  __builtin_memset(scratch_block, 0, sizeof(float) * static_cast<size_t>(columns_scratch(s)));
  if (s.kw == 3 && s.sw == 1)
    add_windows_of_three(s, p, cols, scratch_block);
  else
    add_windows(s, p, cols, scratch_block);
  for (int64_t c = 0; c < s.c; ++c)
    for (int64_t y = 0; y < s.h; ++y)
      __builtin_memcpy(dx + (c * s.h + y) * s.w, scratch_block + p.at(s, c, y),
                       sizeof(float) * static_cast<size_t>(s.w));
}

void im2col(const Conv2dShape& s, const float* x, float* cols, int threads) {
  const int64_t image = s.c * s.h * s.w, out = s.oh() * s.ow() * s.c * s.kh * s.kw;
  const int64_t per_worker = columns_scratch(s);
  float* block = static_cast<float*>(scratch(sizeof(float) * static_cast<size_t>(threads * per_worker)));
  parallel_for(s.n, threads, [=](int64_t n, int worker) {
    im2col_sample(s, x + n * image, cols + n * out, block + worker * per_worker);
  });
}

void col2im(const Conv2dShape& s, const float* cols, float* dx, int threads) {
  const int64_t image = s.c * s.h * s.w, in = s.oh() * s.ow() * s.c * s.kh * s.kw;
  const int64_t per_worker = columns_scratch(s);
  float* block = static_cast<float*>(scratch(sizeof(float) * static_cast<size_t>(threads * per_worker)));
  parallel_for(s.n, threads, [=](int64_t n, int worker) {
    col2im_sample(s, cols + n * in, dx + n * image, block + worker * per_worker);
  });
}

}  // namespace mnist100::MNIST100_ISA
