// conv + bias + ReLU + 2x2 max-pool on zero-padded NHWC, where the taps of one kernel row are
// kw * c adjacent floats: the image itself is the left operand of the product, at row stride c, and
// neither a column matrix nor the convolution's output is ever written out.
#include "microkernel.h"
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

typedef uint8_t ByteVec __attribute__((vector_size(kLanes)));
typedef uint8_t UnalignedByteVec __attribute__((vector_size(kLanes), aligned(1), may_alias));

constexpr int64_t kChunks = 32;  // partial weight gradients, as in conv2d.cpp

// Weights of one stride-1 correlation as the register tile wants them. Output channels are cut into
// panels of kCols and, if at most kLanes are left, one of kLanes; panel p lies at
// weights + p * kCols * taps as [kh][kw * c][width]. `oc` is rounded up to whole vectors.
struct Correlation {
  int64_t c, oc, kh, kw;
  const float* weights;
  const float* bias;  // (oc), or null

  MNIST100_INLINE int64_t run() const { return kw * c; }
  MNIST100_INLINE int64_t taps() const { return kh * kw * c; }
};

// weight(o, c, ky, kx) may be called with any o < f.oc and c < f.c.
template <class F>
void pack_weights(const Correlation& f, float* dst, F weight) {
  for (int64_t first = 0; first < f.oc; first += kCols) {
    const int64_t width = min_of(kCols, f.oc - first);
    for (int64_t ky = 0; ky < f.kh; ++ky)
      for (int64_t kx = 0; kx < f.kw; ++kx)
        for (int64_t c = 0; c < f.c; ++c)
          for (int64_t o = first; o < first + width; ++o) *dst++ = weight(o, c, ky, kx);
  }
}

// One panel of V vectors: out[pixel * stride + :] for `width` pixels whose first tap is x[0].
template <int V>
void correlate_panel(const Correlation& f, int64_t first, int64_t width, const float* x, int64_t x_row,
                     float* out, int64_t stride) {
  const float* weights = f.weights + first * f.taps();
  // Tiles as equal as can be: 28 pixels are 10 + 9 + 9, not 12 + 12 + 4.
  for (int64_t pixel = 0, tiles = ceil_div(width, kRows); tiles > 0; --tiles) {
    const int64_t rows = ceil_div(width - pixel, tiles);
    with_rows<kRows>(rows, [&](auto count) MNIST100_LAMBDA_INLINE {
      Tile<decltype(count)::value, V> tile;
      tile.clear();
      for (int64_t ky = 0; ky < f.kh; ++ky)
        tile.add_product(f.run(), x + ky * x_row + pixel * f.c, f.c, 1, weights + ky * f.run() * V * kLanes,
                         V * kLanes);
      if (f.bias) tile.add_row(f.bias + first);
      tile.store_to(out + pixel * stride + first, stride);
    });
    pixel += rows;
  }
}

// One output row: out[pixel * stride + o] for all o < f.oc.
void correlate_row(const Correlation& f, int64_t width, const float* x, int64_t x_row, float* out,
                   int64_t stride) {
  for (int64_t first = 0; first < f.oc; first += kCols) {
    if (f.oc - first > kLanes)
      correlate_panel<kVecs>(f, first, width, x, x_row, out, stride);
    else
      correlate_panel<1>(f, first, width, x, x_row, out, stride);
  }
}

MNIST100_INLINE Vec relu_of(Vec x) { return x < Vec{} ? Vec{} : x; }  // a NaN is kept

// ReLU and max over the windows of two convolution rows, pixels `stride` floats apart.
void pool_rows(const ConvBlockShape& s, const float* top, const float* bottom, int64_t stride, float* y,
               uint8_t* argmax) {
  for (int64_t px = 0; px < s.pw(); ++px, y += s.oc, argmax += s.oc)
    for (int64_t o = 0; o < s.oc; o += kLanes) {
      const float* window[4] = {top + 2 * px * stride + o, top + (2 * px + 1) * stride + o,
                                bottom + 2 * px * stride + o, bottom + (2 * px + 1) * stride + o};
      Vec best = relu_of(load(window[0]));
      IntVec place = IntVec{};
      for (int i = 1; i < 4; ++i) {
        const Vec value = relu_of(load(window[i]));
        const IntVec better = (value > best) | (value != value);
        best = better ? value : best;
        place = better ? IntVec{} + i : place;
      }
      const ByteVec bytes = __builtin_convertvector(place, ByteVec);
      if (o + kLanes <= s.oc) {
        store(y + o, best);
        *reinterpret_cast<UnalignedByteVec*>(argmax + o) = bytes;
      } else {
        for (int64_t i = 0; o + i < s.oc; ++i) {
          y[o + i] = best[i];
          argmax[o + i] = bytes[i];
        }
      }
    }
}

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
          const ByteVec bytes = *reinterpret_cast<const UnalignedByteVec*>(places + o);
          const IntVec place = __builtin_convertvector(bytes, IntVec);
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

}  // namespace

void conv_block(const ConvBlockShape& s, const float* x, const float* w, const float* b, float* y,
                uint8_t* argmax, int threads) {
  const int64_t ocp = round_up(s.oc, kLanes);
  Correlation f = {s.c, ocp, s.kh, s.kw, nullptr, nullptr};
  const int64_t rows = round_up(2 * s.w * ocp, 16);  // two convolution rows a worker
  float* weights = static_cast<float*>(
      scratch(sizeof(float) * static_cast<size_t>(ocp * f.taps() + ocp + threads * rows)));
  float* bias = weights + ocp * f.taps();
  float* buffers = bias + ocp;
  pack_weights(f, weights, [&](int64_t o, int64_t c, int64_t ky, int64_t kx) {
    return o < s.oc ? w[((o * s.c + c) * s.kh + ky) * s.kw + kx] : 0.0f;
  });
  for (int64_t o = 0; o < ocp; ++o) bias[o] = o < s.oc ? b[o] : 0;
  f.weights = weights;
  f.bias = bias;
  const int64_t x_row = s.x().row();
  parallel_for(s.n, threads, [&](int64_t n, int worker) {
    float* top = buffers + worker * rows;
    float* bottom = top + s.w * ocp;
    const float* sample = x + n * s.x().sample();
    __builtin_memset(y + n * s.y().sample(), 0, sizeof(float) * static_cast<size_t>(s.y().sample()));
    for (int64_t py = 0; py < s.ph(); ++py) {
      correlate_row(f, 2 * s.pw(), sample + 2 * py * x_row, x_row, top, ocp);
      correlate_row(f, 2 * s.pw(), sample + (2 * py + 1) * x_row, x_row, bottom, ocp);
      pool_rows(s, top, bottom, ocp, y + s.y().at(n, py, 0), argmax + (n * s.ph() + py) * s.pw() * s.oc);
    }
  });
}

void conv_block_backward(const ConvBlockShape& s, const float* dy, const float* x, const float* y,
                         const uint8_t* argmax, const float* w, float* dx, float* dw, float* db,
                         int threads) {
  const int64_t ocp = round_up(s.oc, kLanes);
  const int64_t taps = s.kh * s.kw * s.c;
  const PaddedShape d = {1, ocp, s.h, s.w, s.kh / 2, s.kw / 2};
  Correlation flipped = {ocp, round_up(s.c, kLanes), s.kh, s.kw, nullptr, nullptr};
  const int64_t weight_size = flipped.oc * flipped.taps();
  const int64_t chunks = max_of(1, min_of(s.n, kChunks));
  const int64_t part_size = taps * ocp + ocp;  // dw, db
  const int64_t row_size = s.w * flipped.oc;
  const int64_t worker_size = round_up(d.sample() + row_size, 16);
  float* weights = static_cast<float*>(scratch(
      sizeof(float) * static_cast<size_t>(weight_size + (chunks + 1) * part_size + threads * worker_size)));
  float* parts = weights + weight_size;
  float* sums = parts + chunks * part_size;
  float* workers = sums + part_size;
  if (dx)
    pack_weights(flipped, weights, [&](int64_t c, int64_t o, int64_t ky, int64_t kx) {
      const bool real = c < s.c && o < s.oc;
      return real ? w[((o * s.c + c) * s.kh + s.kh - 1 - ky) * s.kw + s.kw - 1 - kx] : 0.0f;
    });
  flipped.weights = weights;
  const Scatter scatter = {s, ocp, d};
  parallel_for(chunks, threads, [&](int64_t chunk, int worker) {
    float* d_sample = workers + worker * worker_size;
    float* dw_part = parts + chunk * part_size;
    __builtin_memset(d_sample, 0, sizeof(float) * static_cast<size_t>(d.sample()));
    __builtin_memset(dw_part, 0, sizeof(float) * static_cast<size_t>(part_size));
    for (int64_t n = s.n * chunk / chunks; n < s.n * (chunk + 1) / chunks; ++n) {
      const int64_t at_y = n * s.y().sample();
      const float* x_sample = x + n * s.x().sample();
      scatter(dy + at_y, y + at_y, argmax + n * s.ph() * s.pw() * s.oc, d_sample, dw_part + taps * ocp);
      weight_gradient(s, d, x_sample, d_sample, dw_part);
      if (dx) input_gradient(s, d, flipped, d_sample, d_sample + d.sample(), dx + n * s.x().sample());
    }
  });
  sum_partials(part_size, chunks, parts, sums, threads);
  for (int64_t i = 0; i < s.oc * taps; ++i) {  // (kh,kw,c,ocp) -> (oc,c,kh,kw)
    const int64_t o = i / taps;
    const int64_t c = i % taps / (s.kh * s.kw);
    const int64_t ky_kx = i % (s.kh * s.kw);
    dw[i] = sums[(ky_kx * s.c + c) * ocp + o];
  }
  __builtin_memcpy(db, sums + taps * ocp, sizeof(float) * static_cast<size_t>(s.oc));
}

}  // namespace mnist100::MNIST100_ISA
