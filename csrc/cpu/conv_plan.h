// A stride-1 "same" convolution between padded images, sample by sample: Winograd's for 3x3 taps and channels
// in whole vectors on either side, else the direct tile.
#pragma once

#include "winograd.h"

namespace mnist100 {
namespace {

struct ConvPlan {
  Correlation direct;
  Winograd fast;
  PaddedShape in, out;  // one sample of each; the border of `in` is (kh/2, kw/2)
  bool transformed;

  // f.oc: the channels of `out`, rounded up to whole vectors.
  ConvPlan(const Correlation& f, const PaddedShape& in_, const PaddedShape& out_)
      : direct(f),
        fast{f.c, f.oc, nullptr, f.bias},
        in(in_),
        out(out_),
        transformed(f.kh == 3 && f.kw == 3 && f.c % kLanes == 0 && f.oc == out.c && in.h > 1 && in.w > 1) {}

  int64_t direct_floats() const { return round_up(direct.oc * direct.taps(), 16); }
  // Floats of weights, and of scratch for each worker; multiples of a cache line.
  int64_t floats() const {
    return direct_floats() + (transformed ? Winograd::weights_size(fast.c, fast.oc) : 0);
  }
  int64_t worker_floats() const {
    return round_up(max_of(in.w * direct.oc, transformed ? Winograd::scratch_size(fast.c) : 0), 16);
  }

  // As pack_weights.
  template <class F>
  void pack(float* dst, F weight) {
    pack_weights(direct, dst, weight);
    direct.weights = dst;
    if (!transformed) return;
    transform_weights(direct, dst, dst + direct_floats());
    fast.weights = dst + direct_floats();
  }

  // Interior of one sample: x -> y.
  void run(const float* x, float* y, float* worker) const {
    if (!transformed || !run_transformed(x, y, worker)) correlate_sample(direct, in, x, out, y, worker);
  }

  bool run_transformed(const float* x, float* y, float* worker) const {
    // Of an odd size, the last two rows or columns share one with those before.
    const int64_t across = ceil_div(in.w, 2), down = ceil_div(in.h, 2);
    int64_t row = 0, column = -1;
    const auto next = [&]() MNIST100_LAMBDA_INLINE {
      if (++column == across) {
        column = 0;
        ++row;
      }
      const Corner at = {min_of(2 * row, in.h - 2), min_of(2 * column, in.w - 2)};
      // Where the results will go, while the products leave the memory idle.
      const float* to = y + out.at(0, at.y, at.x);
      for (int64_t o = 0; o < 2 * out.c; o += 16) {
        __builtin_prefetch(to + o, 1);
        __builtin_prefetch(to + out.row() + o, 1);
      }
      return at;
    };
    const auto finish = [&](Corner at, int64_t first, const Window& w) MNIST100_LAMBDA_INLINE {
      float* to = y + out.at(0, at.y, at.x) + first;
      store(to, finished(w.a));
      store(to + out.c, finished(w.b));
      store(to + out.row(), finished(w.c));
      store(to + out.row() + out.c, finished(w.d));
    };
    return winograd(fast, across * down, x, in.row(), worker, next, finish);
  }

  MNIST100_INLINE Vec finished(Vec result) const { return direct.relu ? larger(result, Vec{}) : result; }
};

}  // namespace
}  // namespace mnist100
