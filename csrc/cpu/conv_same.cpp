// Stride-1 convolution with "same" padding on zero-padded NHWC, forward and backward, no pool behind it.
#include "conv_gradient.h"
#include "winograd_gradient.h"

namespace mnist100::MNIST100_ISA {
namespace {

// The gradient at the convolution's output: dy where y > 0 (everywhere if y is null), in the interior of
// d, whose channels are rounded up; channel sums are added to db. For V vectors of channels from `first`.
template <int V>
void gate_vectors(const ConvSameShape& s, int64_t first, const float* dy, const float* y,
                  const PaddedShape& d, float* d_sample, float* db) {
  Vec sums[V] = {};
  for (int64_t iy = 0; iy < s.h; ++iy)
    for (int64_t ix = 0; ix < s.w; ++ix) {
      const int64_t from = s.y().at(0, iy, ix) + first;
      float* to = d_sample + d.at(0, iy, ix) + first;
      for (int v = 0; v < V; ++v) {
        const int64_t at = v * kLanes, lanes = min_of(kLanes, s.oc - first - at);
        Vec gradient = load_first(dy + from + at, lanes);
        if (y) gradient = load_first(y + from + at, lanes) > Vec{} ? gradient : Vec{};
        store(to + at, gradient);
        sums[v] += gradient;
      }
    }
  for (int v = 0; v < V; ++v) store(db + first + v * kLanes, load(db + first + v * kLanes) + sums[v]);
}

void gate(const ConvSameShape& s, const float* dy, const float* y, const PaddedShape& d, float* d_sample,
          float* db) {
  constexpr int kMost = 4;  // pixels in a row of memory, and sums in registers
  for (int64_t first = 0; first < s.oc; first += kMost * kLanes)
    with_rows<kMost>(min_of(kMost, ceil_div(s.oc - first, kLanes)), [&](auto count) {
      gate_vectors<decltype(count)::value>(s, first, dy, y, d, d_sample, db);
    });
}

struct Backward {
  const ConvSameShape& s;
  const float *dy, *x, *y, *w;
  float *dx, *dw, *db;
  int threads;

  // `transformed`: the weight gradient by windows of F. Returns false where that has failed.
  template <class F>
  bool run(bool transformed) const {
    const int64_t ocp = round_up(s.oc, kLanes);
    const PaddedShape d = {1, ocp, s.h, s.w, s.kh / 2, s.kw / 2};
    const WinogradGradient<F> winograd = {s.x(), d};
    ConvPlan flipped = input_gradient(d, s.x(), s.kh, s.kw);
    const Partials parts = transformed ? Partials(s.n, winograd.sums(), ocp, winograd.chunks(s.n))
                                       : Partials(s.n, s.kh * s.kw * s.c * ocp, ocp);
    const int64_t together = dx ? flipped.samples_at_once(s.n) : 1;
    const int64_t d_size = round_up(together * d.sample(), 16);
    const int64_t flipped_size = dx ? flipped.worker_floats() : 0;
    const int64_t worker_size = d_size + flipped_size + (transformed ? winograd.scratch_floats() : 0);
    float* block = scratch_floats(parts.floats() + flipped.floats() + threads * worker_size);
    float* weights = block + parts.floats();
    float* workers = weights + flipped.floats();
    for (int i = 0; i < threads; ++i)  // borders and channels beyond oc stay zero
      clear(workers + i * worker_size, together * d.sample());
    if (dx) pack_flipped(flipped, s.oc, s.c, w, weights);
    const float* sums = parts.run_chunks(
        s.n, block, threads, [&](int64_t first, int64_t end, float* dw_part, float* db_part, int worker) {
          float *d_samples = workers + worker * worker_size, *own = d_samples + d_size;
          if (!transformed) clear(dw_part, parts.weights);
          clear(db_part, parts.size - parts.weights);
          typename WinogradGradient<F>::Block windows = {own + flipped_size, 0, true};
          for (int64_t n = first; n < end; n += together) {
            const int64_t count = min_of(together, end - n);
            for (int64_t i = 0; i < count; ++i) {
              const int64_t at_y = (n + i) * s.y().sample(), at_x = (n + i) * s.x().sample();
              float* d_sample = d_samples + i * d.sample();
              gate(s, dy + at_y, y ? y + at_y : nullptr, d, d_sample, db_part);
              if (transformed)
                winograd.add_sample(x + at_x, d_sample, windows, dw_part);
              else
                weight_gradient(s.x(), d, x + at_x, d_sample, dw_part);
            }
            if (dx) flipped.run(count, d_samples, dx + n * s.x().sample(), own);
          }
          if (transformed) winograd.add_block(windows, dw_part);
        });
    __builtin_memcpy(db, sums + parts.weights, sizeof(float) * static_cast<size_t>(s.oc));
    if (transformed) return winograd.write(s.oc, sums, dw);
    write_weight_gradient(s.oc, s.c, s.kh * s.kw, sums, 1, s.c * ocp, ocp, dw);
    return true;
  }
};

}  // namespace

void conv_same(const ConvSameShape& s, const float* x, const float* w, const float* b, bool relu, float* y,
               int threads) {
  const int64_t ocp = round_up(s.oc, kLanes), bias_size = round_up(ocp, 16);
  ConvPlan plan({s.c, ocp, s.kh, s.kw, nullptr, nullptr, relu}, s.x(), s.y());
  float* bias = scratch_floats(bias_size + plan.floats() + threads * plan.worker_floats());
  float* weights = bias + bias_size;
  float* workers = weights + plan.floats();
  for (int64_t o = 0; o < ocp; ++o) bias[o] = b && o < s.oc ? b[o] : 0;
  plan.direct.bias = bias;
  plan.pack(weights, [&](int64_t o, int64_t c, int64_t ky, int64_t kx) {
    return o < s.oc ? w[((o * s.c + c) * s.kh + ky) * s.kw + kx] : 0.0f;
  });
  const int64_t together = plan.samples_at_once(s.n);
  parallel_for(ceil_div(s.n, together), threads, [&](int64_t group, int worker) {
    const int64_t first = group * together, count = min_of(together, s.n - first);
    float* to = y + first * s.y().sample();
    for (int64_t i = 0; i < count; ++i) zero_border(s.y(), to + i * s.y().sample());
    plan.run(count, x + first * s.x().sample(), to, workers + worker * plan.worker_floats());
  });
}

void conv_same_backward(const ConvSameShape& s, const float* dy, const float* x, const float* y,
                        const float* w, float* dx, float* dw, float* db, int threads) {
  const Backward all = {s, dy, x, y, w, dx, dw, db, threads};
  const bool transforms = s.kh == 3 && s.kw == 3 && s.c % kLanes == 0;
  const Windows windows = transforms ? windows_for(s.h, s.w) : Windows::kNone;
  if (windows == Windows::kLarge && all.run<F4>(true)) return;
  if (windows == Windows::kSmall && all.run<F2>(true)) return;
  all.run<F2>(false);
}

}  // namespace mnist100::MNIST100_ISA
