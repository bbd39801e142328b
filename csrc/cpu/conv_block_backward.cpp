// Backward pass of a conv block, from the pooled gradient and the noted places. The sparse route takes the
// shapes whose channels are whole vectors (or one input channel); the dense route takes every other.
#include "conv_gradient.h"
#include "sparse_gradient.h"
#include "transpose.h"

namespace mnist100::MNIST100_ISA {
namespace {

// The gradient at the convolution's output of one sample: d (h,w,ocp) inside a border like x's.
// Writes every pixel of every window, adds to db (ocp).
struct Scatter {
  const ConvBlockShape& s;
  int64_t ocp;
  PaddedShape d;

  void operator()(const float* dy, const float* y, const uint8_t* argmax, float* d_sample, float* db) const {
    for (int64_t py = 0; py < s.ph(); ++py)
      for (int64_t px = 0; px < s.pw(); ++px) {
        const int64_t at_y = s.y().at(0, py, px);
        const uint8_t* places = argmax + (py * s.pw() + px) * s.oc;
        float* pixel = d_sample + d.at(0, 2 * py, 2 * px);
        int64_t o = 0;
        for (; o + kLanes <= s.oc; o += kLanes) {
          const Vec out = load(y + at_y + o);
          const Vec live = out > Vec{} ? load(dy + at_y + o) : Vec{};
          const IntVec place = widen(places + o);
          for (int i = 0; i < 4; ++i)
            store(pixel + i / 2 * d.row() + i % 2 * ocp + o, place == i ? live : Vec{});
          store(db + o, load(db + o) + live);
        }
        for (; o < s.oc; ++o) {
          const float live = y[at_y + o] > 0 ? dy[at_y + o] : 0;
          for (int i = 0; i < 4; ++i) pixel[i / 2 * d.row() + i % 2 * ocp + o] = places[o] == i ? live : 0;
          db[o] += live;
        }
      }
  }
};

struct Gradients {
  float *dx, *dw, *db;  // dx may be null
};

void dense_backward(const ConvBlockShape& s, const float* dy, const float* x, const float* y,
                    const uint8_t* argmax, const float* w, const Gradients& out, int threads) {
  const int64_t ocp = round_up(s.oc, kLanes);
  const int64_t taps = s.kh * s.kw * s.c;
  const PaddedShape d = {1, ocp, s.h, s.w, s.kh / 2, s.kw / 2};
  ConvPlan flipped = input_gradient(d, s.x(), s.kh, s.kw);
  const Partials parts(s.n, taps * ocp, ocp);
  const int64_t worker_size = round_up(d.sample(), 16) + flipped.worker_floats();
  float* block = static_cast<float*>(scratch(
      sizeof(float) * static_cast<size_t>(parts.floats() + flipped.floats() + threads * worker_size)));
  float* weights = block + parts.floats();
  float* workers = weights + flipped.floats();
  for (int i = 0; i < threads; ++i)  // the borders stay zero
    __builtin_memset(workers + i * worker_size, 0, sizeof(float) * static_cast<size_t>(d.sample()));
  if (out.dx) pack_flipped(flipped, s.oc, s.c, w, weights);
  const Scatter scatter = {s, ocp, d};
  const float* sums = parts.run(s.n, block, threads, [&](int64_t n, float* dw, float* db, int worker) {
    float* d_sample = workers + worker * worker_size;
    const int64_t at_y = n * s.y().sample();
    scatter(dy + at_y, y + at_y, argmax + n * s.ph() * s.pw() * s.oc, d_sample, db);
    weight_gradient(s.x(), d, x + n * s.x().sample(), d_sample, dw);
    if (out.dx) flipped.run(1, d_sample, out.dx + n * s.x().sample(), d_sample + round_up(d.sample(), 16));
  });
  write_weight_gradient(s.oc, s.c, s.kh * s.kw, sums, 1, s.c * ocp, ocp, out.dw);
  __builtin_memcpy(out.db, sums + parts.weights, sizeof(float) * static_cast<size_t>(s.oc));
}

// Offsets into a sample are 32 bits wide.
bool is_sparse_shape(const ConvBlockShape& s) {
  const bool wide = s.c % kLanes == 0, single = s.c == 1 && kLanes >= 8;
  return s.kh == 3 && s.kw == 3 && s.oc % kLanes == 0 && (wide || single) && s.x().sample() <= INT32_MAX;
}

void sparse_backward(const ConvBlockShape& s, const float* dy, const float* x, const float* y,
                     const uint8_t* argmax, const float* w, const Gradients& out, int threads) {
  const bool single = s.c == 1;
  const Partials parts(s.n, 9 * s.c * s.oc, s.oc);
  const int64_t taps_size = round_up((single ? 64 : 9 * s.c) * s.oc, 16);
  const int64_t worker_size = single ? 0 : SparseScratch::floats(s);
  float* block = static_cast<float*>(
      scratch(sizeof(float) * static_cast<size_t>(parts.floats() + taps_size + threads * worker_size)));
  float* taps = block + parts.floats();
  float* workers = taps + taps_size;
  if (out.dx && single) place_taps(s.oc, w, taps);
  if (out.dx && !single)  // (oc,c,3,3) -> (oc,3,3,c)
    for (int64_t o = 0; o < s.oc; ++o) transpose_matrix(s.c, 9, w + o * 9 * s.c, 9, taps + o * 9 * s.c, s.c);
  const float* sums = parts.run(s.n, block, threads, [&](int64_t n, float* dw, float* db, int worker) {
    const int64_t at_y = n * s.y().sample(), at_x = n * s.x().sample();
    const PooledGradient g = {s, dy + at_y, y + at_y, argmax + n * s.ph() * s.pw() * s.oc};
    if (single) {
      add_weight_gradient_1(g, x + at_x, dw, db);
      if (out.dx) input_gradient_1(g, taps, out.dx + at_x);
    } else {
      const SparseScratch own = SparseScratch::in(s, workers + worker * worker_size);
      const auto backward = s.c == 16   ? backward_sample<16>
                            : s.c == 32 ? backward_sample<32>
                                        : backward_sample<0>;
      backward(g, own, x + at_x, taps, out.dx ? out.dx + at_x : nullptr, dw, db);
    }
  });
  if (single)
    write_weight_gradient(s.oc, s.c, s.kh * s.kw, sums, 1, s.oc, 1, out.dw);
  else
    write_weight_gradient(s.oc, s.c, s.kh * s.kw, sums, 9 * s.c, s.c, 1, out.dw);
  __builtin_memcpy(out.db, sums + parts.weights, sizeof(float) * static_cast<size_t>(s.oc));
}

}  // namespace

void conv_block_backward(const ConvBlockShape& s, const float* dy, const float* x, const float* y,
                         const uint8_t* argmax, const float* w, float* dx, float* dw, float* db,
                         int threads) {
  const auto backward = is_sparse_shape(s) ? sparse_backward : dense_backward;
  backward(s, dy, x, y, argmax, w, {dx, dw, db}, threads);
}

}  // namespace mnist100::MNIST100_ISA
