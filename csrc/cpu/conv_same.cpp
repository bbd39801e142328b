// Stride-1 convolution with "same" padding on zero-padded NHWC, forward and backward, no pool behind it.
#include "conv_gradient.h"

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

}  // namespace

void conv_same(const ConvSameShape& s, const float* x, const float* w, const float* b, bool relu, float* y,
               int threads) {
  const int64_t ocp = round_up(s.oc, kLanes);
  Correlation f = {s.c, ocp, s.kh, s.kw, nullptr, nullptr, relu};
  const int64_t packed_size = round_up(ocp * f.taps() + ocp, 16);
  const int64_t row_size = round_up(s.w * ocp, 16);
  float* packed =
      static_cast<float*>(scratch(sizeof(float) * static_cast<size_t>(packed_size + threads * row_size)));
  float* bias = packed + ocp * f.taps();
  pack_weights(f, packed, [&](int64_t o, int64_t c, int64_t ky, int64_t kx) {
    return o < s.oc ? w[((o * s.c + c) * s.kh + ky) * s.kw + kx] : 0.0f;
  });
  for (int64_t o = 0; o < ocp; ++o) bias[o] = b && o < s.oc ? b[o] : 0;
  f.weights = packed;
  f.bias = bias;
  parallel_for(s.n, threads, [&](int64_t n, int worker) {
    float* to = y + n * s.y().sample();
    zero_border(s.y(), to);
    correlate_sample(f, s.x(), x + n * s.x().sample(), s.y(), to, packed + packed_size + worker * row_size);
  });
}

void conv_same_backward(const ConvSameShape& s, const float* dy, const float* x, const float* y,
                        const float* w, float* dx, float* dw, float* db, int threads) {
  const int64_t ocp = round_up(s.oc, kLanes);
  const PaddedShape d = {1, ocp, s.h, s.w, s.kh / 2, s.kw / 2};
  Flipped flipped(s.c, ocp, s.kh, s.kw);
  const Partials parts(s.n, s.kh * s.kw * s.c * ocp, ocp);
  const int64_t worker_size = round_up(d.sample() + s.w * flipped.f.oc, 16);
  float* block = static_cast<float*>(scratch(
      sizeof(float) * static_cast<size_t>(parts.floats() + flipped.floats() + threads * worker_size)));
  float* weights = block + parts.floats();
  float* workers = weights + flipped.floats();
  for (int i = 0; i < threads; ++i)  // borders and channels beyond oc stay zero
    __builtin_memset(workers + i * worker_size, 0, sizeof(float) * static_cast<size_t>(d.sample()));
  if (dx) flipped.pack(s.oc, s.c, w, weights);
  const float* sums =
      parts.run(s.n, block, threads, [&](int64_t n, float* dw_part, float* db_part, int worker) {
        float* d_sample = workers + worker * worker_size;
        const int64_t at_y = n * s.y().sample(), at_x = n * s.x().sample();
        gate(s, dy + at_y, y ? y + at_y : nullptr, d, d_sample, db_part);
        weight_gradient(s.x(), d, x + at_x, d_sample, dw_part);
        if (dx) correlate_sample(flipped.f, d, d_sample, s.x(), dx + at_x, d_sample + d.sample());
      });
  write_weight_gradient(s.oc, s.c, s.kh * s.kw, sums, 1, s.c * ocp, ocp, dw);
  __builtin_memcpy(db, sums + parts.weights, sizeof(float) * static_cast<size_t>(s.oc));
}

}  // namespace mnist100::MNIST100_ISA
