// Backward pass of a conv block, from the pooled gradient and the noted places. The sparse route takes the
// shapes whose channels are whole vectors (or one input channel); the dense route takes every other.
#include "conv_tile.h"
#include "ops.h"
#include "sparse_gradient.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int64_t kChunks = 32;  // partial weight gradients, as in conv2d.cpp

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

// dw (kh,kw,c,ocp) += sum over pixels of x (shifted by the tap) times d, for one panel of V vectors.
template <int V>
void weight_gradient_panel(const ConvBlockShape& s, const PaddedShape& d, int64_t first, const float* x,
                           const float* d_sample, float* dw) {
  const int64_t run = s.kw * s.c;
  const int64_t x_row = s.x().row();
  for (int64_t ky = 0; ky < s.kh; ++ky)
    for (int64_t tap = 0; tap < run; tap += kRows)
      with_rows<kRows>(min_of(kRows, run - tap), [&](auto count) MNIST100_LAMBDA_INLINE {
        Tile<decltype(count)::value, V> tile;
        tile.clear();
        for (int64_t row = 0; row < s.h; ++row)
          tile.add_product(s.w, x + (row + ky) * x_row + tap, 1, s.c, d_sample + d.at(0, row, 0) + first,
                           d.c);
        tile.add_to(dw + (ky * run + tap) * d.c + first, d.c);
      });
}

void weight_gradient(const ConvBlockShape& s, const PaddedShape& d, const float* x, const float* d_sample,
                     float* dw) {
  for (int64_t first = 0; first < d.c; first += kCols) {
    if (d.c - first > kLanes)
      weight_gradient_panel<kVecs>(s, d, first, x, d_sample, dw);
    else
      weight_gradient_panel<1>(s, d, first, x, d_sample, dw);
  }
}

// Input gradient of one sample: the correlation of d with the flipped weights. `row` holds w pixels.
void input_gradient(const ConvBlockShape& s, const PaddedShape& d, const Correlation& flipped,
                    const float* d_sample, float* row, float* dx) {
  for (int64_t iy = 0; iy < s.h; ++iy) {
    float* out = dx + s.x().at(0, iy, 0);
    const float* first_tap = d_sample + iy * d.row();
    if (flipped.oc == s.c) {
      correlate_row(flipped, s.w, first_tap, d.row(), out, s.c);
      continue;
    }
    correlate_row(flipped, s.w, first_tap, d.row(), row, flipped.oc);
    for (int64_t ix = 0; ix < s.w; ++ix)
      for (int64_t c = 0; c < s.c; ++c) out[ix * s.c + c] = row[ix * flipped.oc + c];
  }
}

// What the routes share: chunks of samples, each with sums of its own that are added up in order.
struct Partials {
  int64_t chunks, weights, size;  // size: of one chunk's sums, weights then biases

  Partials(int64_t n, int64_t weights_, int64_t biases)
      : chunks(max_of(1, min_of(n, kChunks))), weights(weights_), size(round_up(weights_ + biases, 16)) {}
  int64_t floats() const { return (chunks + 1) * size; }

  // Calls f(sample, sums of weights, sums of biases, worker) and returns the totals.
  template <class F>
  float* run(int64_t n, float* block, int threads, F f) const {
    parallel_for(chunks, threads, [&](int64_t chunk, int worker) {
      float* part = block + chunk * size;
      __builtin_memset(part, 0, sizeof(float) * static_cast<size_t>(size));
      for (int64_t i = n * chunk / chunks; i < n * (chunk + 1) / chunks; ++i)
        f(i, part, part + weights, worker);
    });
    float* totals = block + chunks * size;
    sum_partials(size, chunks, block, totals, threads);
    return totals;
  }
};

// dw (oc,c,3,3 or any kernel) from sums with the strides given.
void write_weight_gradient(const ConvBlockShape& s, const float* sums, int64_t oc_stride, int64_t tap_stride,
                           int64_t c_stride, float* dw) {
  const int64_t kernel = s.kh * s.kw;
  for (int64_t o = 0; o < s.oc; ++o)
    for (int64_t c = 0; c < s.c; ++c)
      for (int64_t t = 0; t < kernel; ++t) *dw++ = sums[o * oc_stride + t * tap_stride + c * c_stride];
}

struct Gradients {
  float *dx, *dw, *db;  // dx may be null
};

void dense_backward(const ConvBlockShape& s, const float* dy, const float* x, const float* y,
                    const uint8_t* argmax, const float* w, const Gradients& out, int threads) {
  const int64_t ocp = round_up(s.oc, kLanes);
  const int64_t taps = s.kh * s.kw * s.c;
  const PaddedShape d = {1, ocp, s.h, s.w, s.kh / 2, s.kw / 2};
  Correlation flipped = {ocp, round_up(s.c, kLanes), s.kh, s.kw, nullptr, nullptr};
  const int64_t weight_size = flipped.oc * flipped.taps();
  const Partials parts(s.n, taps * ocp, ocp);
  const int64_t worker_size = round_up(d.sample() + s.w * flipped.oc, 16);
  float* block = static_cast<float*>(
      scratch(sizeof(float) * static_cast<size_t>(parts.floats() + weight_size + threads * worker_size)));
  float* weights = block + parts.floats();
  float* workers = weights + weight_size;
  for (int i = 0; i < threads; ++i)  // the borders stay zero
    __builtin_memset(workers + i * worker_size, 0, sizeof(float) * static_cast<size_t>(d.sample()));
  if (out.dx)
    pack_weights(flipped, weights, [&](int64_t c, int64_t o, int64_t ky, int64_t kx) {
      const bool real = c < s.c && o < s.oc;
      return real ? w[((o * s.c + c) * s.kh + s.kh - 1 - ky) * s.kw + s.kw - 1 - kx] : 0.0f;
    });
  flipped.weights = weights;
  const Scatter scatter = {s, ocp, d};
  const float* sums = parts.run(s.n, block, threads, [&](int64_t n, float* dw, float* db, int worker) {
    float* d_sample = workers + worker * worker_size;
    const int64_t at_y = n * s.y().sample();
    scatter(dy + at_y, y + at_y, argmax + n * s.ph() * s.pw() * s.oc, d_sample, db);
    weight_gradient(s, d, x + n * s.x().sample(), d_sample, dw);
    if (out.dx) input_gradient(s, d, flipped, d_sample, d_sample + d.sample(), out.dx + n * s.x().sample());
  });
  write_weight_gradient(s, sums, 1, s.c * ocp, ocp, out.dw);
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
    for (int64_t i = 0; i < 9 * s.c * s.oc; ++i)
      taps[i] = w[i / (9 * s.c) * 9 * s.c + i % s.c * 9 + i / s.c % 9];
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
    write_weight_gradient(s, sums, 1, s.oc, 1, out.dw);
  else
    write_weight_gradient(s, sums, 9 * s.c, s.c, 1, out.dw);
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
