// NCHW at the edges of a network, zero-padded NHWC between its conv blocks: transposes of (channels, pixels).
#include "ops.h"
#include "shuffle.h"

namespace mnist100::MNIST100_ISA {
namespace {

void zero(float* p, int64_t size) { __builtin_memset(p, 0, sizeof(float) * static_cast<size_t>(size)); }

void zero_border(const PaddedShape& s, float* sample) {
  zero(sample, s.bh * s.row());
  for (int64_t y = s.bh; y < s.bh + s.h; ++y) {
    zero(sample + y * s.row(), s.bw * s.c);
    zero(sample + (y + 1) * s.row() - s.bw * s.c, s.bw * s.c);
  }
  zero(sample + (s.bh + s.h) * s.row(), s.bh * s.row());
}

// Swaps bit Step of the row number and of the lane number; all bits together are a transpose.
template <int Step>
MNIST100_INLINE void transpose_steps(Vec (&t)[kLanes]) {
  if constexpr (Step < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i)
      if (!(i & Step)) {
        const Vec a = t[i], b = t[i + Step];
        t[i] = shuffled<[](int j) { return j & Step ? j - Step + kLanes : j; }>(a, b);
        t[i + Step] = shuffled<[](int j) { return j & Step ? j + kLanes : j + Step; }>(a, b);
      }
    transpose_steps<2 * Step>(t);
  }
}

// Calls f(first, places) for blocks of kLanes pixels of a plane, `first` being the first and places[i] the
// offset of pixel i in a padded sample. The last block may overlap the one before. At least kLanes pixels.
template <class F>
MNIST100_INLINE void for_each_block(const PaddedShape& s, F f) {
  const int64_t pixels = s.h * s.w;
  for (int64_t first = 0;; first = min_of(first + kLanes, pixels - kLanes)) {
    int64_t places[kLanes];
    int64_t y = first / s.w, x = first % s.w;
    for (int i = 0; i < kLanes; ++i) {
      places[i] = s.at(0, y, x);
      if (++x == s.w) x = 0, ++y;
    }
    f(first, places);
    if (first == pixels - kLanes) return;
  }
}

// Channels that go in blocks: those left over, and all of a tiny plane, go one float at a time.
int64_t blocked_channels(const PaddedShape& s) { return s.h * s.w < kLanes ? 0 : s.c / kLanes * kLanes; }

void pad_blocks(const PaddedShape& s, int64_t channels, const float* planes, float* sample) {
  const int64_t pixels = s.h * s.w;
  for_each_block(s, [=](int64_t first, const int64_t* places) MNIST100_LAMBDA_INLINE {
    for (int64_t c = 0; c < channels; c += kLanes) {
      Vec t[kLanes];
      for (int i = 0; i < kLanes; ++i) t[i] = load(planes + (c + i) * pixels + first);
      transpose_steps<1>(t);
      for (int i = 0; i < kLanes; ++i) store(sample + places[i] + c, t[i]);
    }
  });
}

void unpad_blocks(const PaddedShape& s, int64_t channels, const float* sample, float* planes) {
  const int64_t pixels = s.h * s.w;
  for_each_block(s, [=](int64_t first, const int64_t* places) MNIST100_LAMBDA_INLINE {
    for (int64_t c = 0; c < channels; c += kLanes) {
      Vec t[kLanes];
      for (int i = 0; i < kLanes; ++i) t[i] = load(sample + places[i] + c);
      transpose_steps<1>(t);
      for (int i = 0; i < kLanes; ++i) store(planes + (c + i) * pixels + first, t[i]);
    }
  });
}

// Calls f(row of a plane, pixel of a padded sample) for the rows of channel c.
template <class F>
MNIST100_INLINE void for_each_row(const PaddedShape& s, int64_t c, F f) {
  for (int64_t y = 0; y < s.h; ++y) f((c * s.h + y) * s.w, s.at(0, y, 0) + c);
}

// The other channels, from `first` on. With one channel, rows are plain copies.
void pad_rest(const PaddedShape& s, int64_t first, const float* planes, float* sample) {
  for (int64_t c = first; c < s.c; ++c)
    for_each_row(s, c, [&](int64_t from, int64_t to) {
      if (s.c == 1)
        __builtin_memcpy(sample + to, planes + from, sizeof(float) * static_cast<size_t>(s.w));
      else
        for (int64_t x = 0; x < s.w; ++x) sample[to + x * s.c] = planes[from + x];
    });
}

void unpad_rest(const PaddedShape& s, int64_t first, const float* sample, float* planes) {
  for (int64_t c = first; c < s.c; ++c)
    for_each_row(s, c, [&](int64_t to, int64_t from) {
      if (s.c == 1)
        __builtin_memcpy(planes + to, sample + from, sizeof(float) * static_cast<size_t>(s.w));
      else
        for (int64_t x = 0; x < s.w; ++x) planes[to + x] = sample[from + x * s.c];
    });
}

}  // namespace

void pad_nhwc(const PaddedShape& s, const float* x, float* y, int threads) {
  const int64_t channels = blocked_channels(s);
  parallel_for(s.n, threads, [&](int64_t n, int) {
    const float* planes = x + n * s.c * s.h * s.w;
    float* sample = y + n * s.sample();
    zero_border(s, sample);
    if (channels) pad_blocks(s, channels, planes, sample);
    pad_rest(s, channels, planes, sample);
  });
}

void unpad_nhwc(const PaddedShape& s, const float* x, float* y, int threads) {
  const int64_t channels = blocked_channels(s);
  parallel_for(s.n, threads, [&](int64_t n, int) {
    const float* sample = x + n * s.sample();
    float* planes = y + n * s.c * s.h * s.w;
    if (channels) unpad_blocks(s, channels, sample, planes);
    unpad_rest(s, channels, sample, planes);
  });
}

}  // namespace mnist100::MNIST100_ISA
