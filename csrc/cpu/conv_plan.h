// A stride-1 "same" convolution between padded images, a few samples at a time: Winograd's for 3x3 taps and
// channels in whole vectors on either side, by the windows that take fewer products, else the direct tile.
#pragma once

#include "window.h"
#include "winograd.h"

namespace mnist100 {
namespace {

// Products for images of h x w by windows of F.
template <class F>
MNIST100_INLINE int64_t products_of(int64_t h, int64_t w) {
  return kPlaces<F> * ceil_div(h, F::kOut) * ceil_div(w, F::kOut);
}

// Which windows suit images of h x w.
enum class Windows { kNone, kSmall, kLarge };
MNIST100_INLINE Windows windows_for(int64_t h, int64_t w) {
  if (h < F2::kOut || w < F2::kOut) return Windows::kNone;
  const bool large = h >= F4::kOut && w >= F4::kOut && products_of<F4>(h, w) < products_of<F2>(h, w);
  return large ? Windows::kLarge : Windows::kSmall;
}

// Windows of an image, row by row. Of a size that is no multiple of theirs, the last share rows or columns
// with those before.
template <class F>
struct WindowWalk {
  int64_t h, w;
  int64_t row = 0, column = 0;  // where the next begins, if it were to share none

  MNIST100_INLINE static int64_t count(int64_t h, int64_t w) {
    return ceil_div(h, F::kOut) * ceil_div(w, F::kOut);
  }
  MNIST100_INLINE int64_t y() const { return min_of(row, h - F::kOut); }
  MNIST100_INLINE int64_t x() const { return min_of(column, w - F::kOut); }
  // Returns whether it has come to another image.
  MNIST100_INLINE bool step() {
    column += F::kOut;
    if (column < w) return false;
    column = 0;
    row += F::kOut;
    if (row < h) return false;
    row = 0;
    return true;
  }
};

struct ConvPlan {
  Correlation direct;
  PaddedShape in, out;  // one sample of each; the border of `in` is (kh/2, kw/2)
  Windows windows;
  const float* transformed = nullptr;  // weights

  // f.oc: the channels of `out`, rounded up to whole vectors.
  ConvPlan(const Correlation& f, const PaddedShape& in_, const PaddedShape& out_)
      : direct(f),
        in(in_),
        out(out_),
        windows(f.kh == 3 && f.kw == 3 && f.c % kLanes == 0 && f.oc == out.c ? windows_for(in.h, in.w)
                                                                             : Windows::kNone) {}

  int64_t direct_floats() const { return round_up(direct.oc * direct.taps(), 16); }
  int64_t places() const {
    return windows == Windows::kLarge ? kPlaces<F4> : windows == Windows::kSmall ? kPlaces<F2> : 0;
  }
  // Floats of weights, and of scratch for each worker; multiples of a cache line.
  int64_t floats() const { return direct_floats() + places() * direct.c * direct.oc; }
  int64_t worker_floats() const {
    return round_up(max_of(in.w * direct.oc, places() * kWindows * (direct.c + kCols)), 16);
  }

  // Samples to run at once, of n: so many that their windows are nearly a whole number of tiles, in 16 groups
  // at least. It depends on the shape alone, as those with a result that is not finite are done again
  // together.
  int64_t samples_at_once(int64_t n) const {
    constexpr int64_t kMost = 8;
    const int64_t each =
        windows == Windows::kLarge ? WindowWalk<F4>::count(in.h, in.w) : WindowWalk<F2>::count(in.h, in.w);
    const int64_t most = windows == Windows::kNone ? 1 : min_of(kMost, n / 16);
    for (int64_t samples = 1; samples <= most; ++samples)
      if (10 * samples * each >= 9 * kWindows * ceil_div(samples * each, kWindows)) return samples;
    return max_of(1, most);
  }

  // As pack_weights.
  template <class F>
  void pack(float* dst, F weight) {
    pack_weights(direct, dst, weight);
    direct.weights = dst;
    transformed = dst + direct_floats();
    if (windows == Windows::kLarge) transform_weights<F4>(direct, dst, dst + direct_floats());
    if (windows == Windows::kSmall) transform_weights<F2>(direct, dst, dst + direct_floats());
  }

  // Interiors of samples that follow one another: x -> y.
  void run(int64_t samples, const float* x, float* y, float* worker) const {
    if (windows == Windows::kLarge && run_transformed<F4>(samples, x, y, worker)) return;
    if (windows == Windows::kSmall && run_transformed<F2>(samples, x, y, worker)) return;
    for (int64_t i = 0; i < samples; ++i)
      correlate_sample(direct, in, x + i * in.sample(), out, y + i * out.sample(), worker);
  }

  struct Place {
    const float* patch;
    float* result;
  };

  // The results of one window and one vector of channels from `first` on.
  template <class F>
  __attribute__((noinline)) void finish_window(float* to, int64_t first, const float* products, int64_t place,
                                               Vec& spoilt) const {
    const Results<F> results(products, place);
    results.add_to(spoilt);
    Vec bias = {};
    if (F::kOne < 0 && direct.bias) bias = load(direct.bias + first);
#pragma GCC unroll 4
    for (int64_t i = 0; i < F::kOut; ++i)
#pragma GCC unroll 4
      for (int64_t j = 0; j < F::kOut; ++j) {
        const Vec value = F::kOne < 0 ? results.at[i][j] + bias : results.at[i][j];
        store(to + i * out.row() + j * out.c, direct.relu ? larger(value, Vec{}) : value);
      }
  }

  template <class F>
  bool run_transformed(int64_t samples, const float* x, float* y, float* worker) const {
    WindowWalk<F> walk = {in.h, in.w};
    const auto next = [&]() MNIST100_LAMBDA_INLINE {
      const Place at = {x + walk.y() * in.row() + walk.x() * in.c, y + out.at(0, walk.y(), walk.x())};
      // Where the results will go, while the products leave the memory idle.
      for (int64_t i = 0; i < F::kOut; ++i)
        for (int64_t o = 0; o < F::kOut * out.c; o += 16)
          __builtin_prefetch(at.result + i * out.row() + o, 1);
      if (walk.step()) {
        x += in.sample();
        y += out.sample();
      }
      return at;
    };
    const auto finish =
        [&](const Place& at, int64_t first, const float* products, int64_t place, Vec& spoilt)
            MNIST100_LAMBDA_INLINE { finish_window<F>(at.result + first, first, products, place, spoilt); };
    const Winograd<F> f = {direct.c, direct.oc, transformed, direct.bias};
    return winograd(f, samples * WindowWalk<F>::count(in.h, in.w), in.row(), worker, next, finish);
  }
};

}  // namespace
}  // namespace mnist100
