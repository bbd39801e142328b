// Gradients of a convolution whose output's gradient is a dense image, and how samples share the work.
#pragma once

#include "conv_plan.h"
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int64_t kChunks =
    32;  // partial weight gradients, enough for any usual number of threads, few enough to add up fast

void clear(float* at, int64_t size) { __builtin_memset(at, 0, sizeof(float) * static_cast<size_t>(size)); }

// What the routes share: chunks of samples, each with sums of its own that are added up in order. Their
// number depends on the shape alone, so that the result does not depend on the number of threads.
struct Partials {
  int64_t chunks, weights, size;  // size: of one chunk's sums, weights then biases

  Partials(int64_t n, int64_t weights_, int64_t biases, int64_t most = kChunks)
      : chunks(max_of(1, min_of(n, min_of(most, kChunks)))),
        weights(weights_),
        size(round_up(weights_ + biases, 16)) {}
  int64_t floats() const { return (chunks + 1) * size; }

  // Calls f(first sample, their end, sums of weights, sums of biases, worker) for each chunk and returns the
  // totals. The sums are f's to set.
  template <class F>
  float* run_chunks(int64_t n, float* block, int threads, F f) const {
    parallel_for(chunks, threads, [&](int64_t chunk, int worker) {
      float* part = block + chunk * size;
      f(n * chunk / chunks, n * (chunk + 1) / chunks, part, part + weights, worker);
    });
    float* totals = block + chunks * size;
    sum_partials(size, chunks, block, totals, threads);
    return totals;
  }

  // Calls f(sample, sums of weights, sums of biases, worker), which adds to both, and returns the totals.
  template <class F>
  float* run(int64_t n, float* block, int threads, F f) const {
    return run_chunks(n, block, threads,
                      [&](int64_t first, int64_t end, float* dw_part, float* db_part, int worker) {
                        clear(dw_part, size);
                        for (int64_t i = first; i < end; ++i) f(i, dw_part, db_part, worker);
                      });
  }
};

// dw (kh,kw,c,d.c) += sum over pixels of x (shifted by the tap) times d, for one panel of V vectors. The
// border of x is (kh/2, kw/2).
template <int V>
void weight_gradient_panel(const PaddedShape& x, const PaddedShape& d, int64_t first, const float* x_sample,
                           const float* d_sample, float* dw) {
  const int64_t kh = 2 * x.bh + 1, run = (2 * x.bw + 1) * x.c;
  for (int64_t ky = 0; ky < kh; ++ky)
    for_each_run<kPixels>(run, [&](auto count, int64_t tap) MNIST100_LAMBDA_INLINE {
      Tile<decltype(count)::value, V> tile;
      tile.clear();
      for (int64_t row = 0; row < x.h; ++row)
        tile.add_product(x.w, x_sample + (row + ky) * x.row() + tap, 1, x.c,
                         d_sample + d.at(0, row, 0) + first, d.c);
      tile.add_to(dw + (ky * run + tap) * d.c + first, d.c);
    });
}

void weight_gradient(const PaddedShape& x, const PaddedShape& d, const float* x_sample, const float* d_sample,
                     float* dw) {
  for_each_panel(d.c, [&](auto vecs, int64_t first) {
    weight_gradient_panel<decltype(vecs)::value>(x, d, first, x_sample, d_sample, dw);
  });
}

// What gives dx, of shape `x`: the correlation of the output's gradient d with the flipped weights.
ConvPlan input_gradient(const PaddedShape& d, const PaddedShape& x, int64_t kh, int64_t kw) {
  return ConvPlan({d.c, round_up(x.c, kLanes), kh, kw, nullptr, nullptr, false}, d, x);
}

// w (oc,c,kh,kw)
void pack_flipped(ConvPlan& plan, int64_t oc, int64_t channels, const float* w, float* dst) {
  const int64_t kh = plan.direct.kh, kw = plan.direct.kw;
  plan.pack(dst, [=](int64_t c, int64_t o, int64_t ky, int64_t kx) {
    const bool real = c < channels && o < oc;
    return real ? w[((o * channels + c) * kh + kh - 1 - ky) * kw + kw - 1 - kx] : 0.0f;
  });
}

// dw (oc,c,kernel) from sums with the strides given.
MNIST100_INLINE void write_weight_gradient(int64_t oc, int64_t channels, int64_t kernel, const float* sums,
                                           int64_t oc_stride, int64_t tap_stride, int64_t c_stride,
                                           float* dw) {
  for (int64_t o = 0; o < oc; ++o)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t t = 0; t < kernel; ++t) *dw++ = sums[o * oc_stride + t * tap_stride + c * c_stride];
}

}  // namespace
}  // namespace mnist100::MNIST100_ISA
