// Stride-1 convolution with "same" padding on zero-padded NHWC, forward and backward, no pool behind it.
#include "conv_gradient.h"
#include "winograd_gradient.h"

namespace mnist100::MNIST100_ISA {
namespace {

// The gradient at the convolution's output: dy where y > 0 (everywhere if y is null), in the interior of
// d, whose channels are rounded up; channel sums are added to db.
void gate(const ConvSameShape& s, const float* dy, const float* y, const PaddedShape& d, float* d_sample,
          float* db) {
  for (int64_t o = 0; o < s.oc; o += kLanes) {
    const int64_t lanes = min_of(kLanes, s.oc - o);
    Vec sum = {};
    for (int64_t iy = 0; iy < s.h; ++iy)
      for (int64_t ix = 0; ix < s.w; ++ix) {
        const int64_t at_y = s.y().at(0, iy, ix) + o;
        Vec gradient = load_first(dy + at_y, lanes);
        if (y) gradient = load_first(y + at_y, lanes) > Vec{} ? gradient : Vec{};
        store(d_sample + d.at(0, iy, ix) + o, gradient);
        sum += gradient;
      }
    store(db + o, load(db + o) + sum);
  }
}

struct Backward {
  const ConvSameShape& s;
  const float *dy, *x, *y, *w;
  float *dx, *dw, *db;
  int threads;

  // `transformed`: the weight gradient by Winograd's way. Returns false where that has failed.
  bool run(bool transformed) const {
    const int64_t ocp = round_up(s.oc, kLanes);
    const PaddedShape d = {1, ocp, s.h, s.w, s.kh / 2, s.kw / 2};
    const WinogradGradient winograd = {s.x(), d};
    ConvPlan flipped = input_gradient(d, s.x(), s.kh, s.kw);
    const Partials parts(s.n, transformed ? winograd.sums() : s.kh * s.kw * s.c * ocp, ocp);
    const int64_t sample_size = round_up(d.sample(), 16);
    const int64_t worker_size =
        sample_size + max_of(flipped.worker_floats(), transformed ? winograd.scratch_floats() : 0);
    float* block = scratch_floats(parts.floats() + flipped.floats() + threads * worker_size);
    float* weights = block + parts.floats();
    float* workers = weights + flipped.floats();
    for (int i = 0; i < threads; ++i)  // borders and channels beyond oc stay zero
      __builtin_memset(workers + i * worker_size, 0, sizeof(float) * static_cast<size_t>(d.sample()));
    if (dx) pack_flipped(flipped, s.oc, s.c, w, weights);
    const float* sums =
        parts.run(s.n, block, threads, [&](int64_t n, float* dw_part, float* db_part, int worker) {
          float *d_sample = workers + worker * worker_size, *own = d_sample + sample_size;
          const int64_t at_y = n * s.y().sample(), at_x = n * s.x().sample();
          gate(s, dy + at_y, y ? y + at_y : nullptr, d, d_sample, db_part);
          if (transformed)
            winograd.add_sample(x + at_x, d_sample, dw_part, own);
          else
            weight_gradient(s.x(), d, x + at_x, d_sample, dw_part);
          if (dx) flipped.run(d_sample, dx + at_x, own);
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
  plan.direct.bias = plan.fast.bias = bias;
  plan.pack(weights, [&](int64_t o, int64_t c, int64_t ky, int64_t kx) {
    return o < s.oc ? w[((o * s.c + c) * s.kh + ky) * s.kw + kx] : 0.0f;
  });
  parallel_for(s.n, threads, [&](int64_t n, int worker) {
    float* to = y + n * s.y().sample();
    zero_border(s.y(), to);
    plan.run(x + n * s.x().sample(), to, workers + worker * plan.worker_floats());
  });
}

void conv_same_backward(const ConvSameShape& s, const float* dy, const float* x, const float* y,
                        const float* w, float* dx, float* dw, float* db, int threads) {
  const Backward all = {s, dy, x, y, w, dx, dw, db, threads};
  const bool transformed = s.kh == 3 && s.kw == 3 && s.c % kLanes == 0 && s.h > 1 && s.w > 1;
  if (!transformed || !all.run(true)) all.run(false);
}

}  // namespace mnist100::MNIST100_ISA
