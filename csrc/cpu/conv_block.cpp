// conv + bias + ReLU + 2x2 max-pool on zero-padded NHWC. Neither a column matrix nor the convolution's
// output is ever written out: the four results of a window meet in registers.
#include "conv_tile.h"
#include "ops.h"
#include "pool_window.h"
#include "winograd.h"

namespace mnist100::MNIST100_ISA {
namespace {

// Windows a tile with one and with two vectors of channels: 4 accumulators a window and vector, 24 of 32
// registers with AVX-512, 12 and 8 of 16 elsewhere.
constexpr int kWindows1 = kVectorBytes == 64 ? 6 : 3;
constexpr int kWindows2 = kVectorBytes == 64 ? 3 : 1;

// Windows a tile of the single-channel route: 20 accumulators, 9 taps and a pixel; 12 accumulators and a
// pixel.
constexpr int kWindowsSingle = kVectorBytes == 64 ? 5 : 3;

template <int R, int V>
MNIST100_INLINE void pool_tiles(const Tile<R, V>& top, const Tile<R, V>& bottom, const PooledRow& row,
                                int64_t first_window, int64_t first, Vec& spoilt) {
#pragma GCC unroll 6
  for (int i = 0; i < R / 2; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const Window w = {top.at[2 * i][v], top.at[2 * i + 1][v], bottom.at[2 * i][v], bottom.at[2 * i + 1][v]};
      w.add_to(spoilt);
      pool_window(row, first_window + i, first + v * kLanes, w);
    }
}

// W windows of V vectors of channels.
template <int W, int V>
MNIST100_INLINE void pooled_tile(const Correlation& f, const float* x, int64_t x_row, int64_t first,
                                 int64_t first_window, const PooledRow& row, Vec& spoilt) {
  const float* weights = f.weights + first * f.taps();
  Tile<2 * W, V> top, bottom;
  top.clear();
  bottom.clear();
  top.add_row(f.bias + first);
  bottom.add_row(f.bias + first);
  for (int64_t ky = 0; ky < f.kh; ++ky) {
    const float* from = x + ky * x_row + 2 * first_window * f.c;
    for (int64_t k = 0; k < f.run(); ++k, weights += V * kLanes) {
      top.add_step(from + k, f.c, weights);
      bottom.add_step(from + x_row + k, f.c, weights);
    }
  }
  pool_tiles(top, bottom, row, first_window, first, spoilt);
}

// One input channel and 3x3 taps: each of the 4 x (2 W + 2) pixels is read once and goes to all the results
// that it is a tap of. `width` is the panel's.
template <int W>
MNIST100_INLINE void single_tile(const float* weights, int64_t width, const float* bias, const float* x,
                                 int64_t x_row, int64_t first, int64_t first_window, const PooledRow& row,
                                 Vec& spoilt) {
  Tile<2 * W, 1> rows[2];
  for (Tile<2 * W, 1>& tile : rows) {
    tile.clear();
    tile.add_row(bias);
  }
  Vec taps[9];
#pragma GCC unroll 9
  for (int t = 0; t < 9; ++t) taps[t] = load(weights + t * width);
#pragma GCC unroll 4
  for (int iy = 0; iy < 4; ++iy)
#pragma GCC unroll 16
    for (int ix = 0; ix < 2 * W + 2; ++ix) {
      const Vec pixel = splat(x[iy * x_row + 2 * first_window + ix]);
#pragma GCC unroll 9
      for (int t = 0; t < 9; ++t) {
        const int ox = ix - t % 3;
        if (ox < 0 || ox >= 2 * W) continue;
        if (iy - t / 3 == 0) rows[0].at[ox][0] += pixel * taps[t];
        if (iy - t / 3 == 1) rows[1].at[ox][0] += pixel * taps[t];
      }
    }
  pool_tiles(rows[0], rows[1], row, first_window, first, spoilt);
}

bool single_row(const Correlation& f, int64_t windows, const float* x, int64_t x_row, const PooledRow& row) {
  Vec spoilt = {};
  for_each_panel(f.oc, [&](auto vecs, int64_t first) {
    constexpr int64_t kWidth = decltype(vecs)::value * kLanes;
    for (int64_t o = 0; o < kWidth; o += kLanes)
      for_each_run<kWindowsSingle>(windows, [&](auto count, int64_t window) MNIST100_LAMBDA_INLINE {
        single_tile<decltype(count)::value>(f.weights + first * 9 + o, kWidth, f.bias + first + o, x, x_row,
                                            first + o, window, row, spoilt);
      });
  });
  return !is_spoilt(spoilt);
}

// One pooled row whose first tap is x[0]; false if a result was not finite.
bool direct_row(const Correlation& f, int64_t windows, const float* x, int64_t x_row, const PooledRow& row) {
  Vec spoilt = {};
  for_each_panel(f.oc, [&](auto vecs, int64_t first) {
    constexpr int kV = decltype(vecs)::value;
    for_each_run<kV == 1 ? kWindows1 : kWindows2>(
        windows, [&](auto count, int64_t window) MNIST100_LAMBDA_INLINE {
          pooled_tile<decltype(count)::value, kV>(f, x, x_row, first, window, row, spoilt);
        });
  });
  return !is_spoilt(spoilt);
}

// A window of a pooled row.
struct RowPlace {
  const float* patch;
  int64_t window;
};

bool winograd_row(const Winograd<F2>& f, int64_t windows, const float* x, int64_t x_row, const PooledRow& row,
                  float* block) {
  int64_t window = -1;
  return winograd(
      f, windows, x_row, block,
      [&]() MNIST100_LAMBDA_INLINE {
        ++window;
        return RowPlace{x + 2 * window * f.c, window};
      },
      [&](const RowPlace& at, int64_t first, const float* products, int64_t place, Vec& spoilt)
          MNIST100_LAMBDA_INLINE {
            const Results<F2> r(products, place);
            r.add_to(spoilt);
            pool_window(row, at.window, first, {r.at[0][0], r.at[0][1], r.at[1][0], r.at[1][1]});
          });
}

// The slow way, which keeps every NaN and infinity where it belongs.
void careful_row(const Correlation& f, int64_t windows, const float* x, int64_t x_row, const PooledRow& row,
                 float* buffer) {
  float* bottom = buffer + 2 * windows * f.oc;
  correlate_row(f, 2 * windows, x, x_row, buffer, f.oc);
  correlate_row(f, 2 * windows, x + x_row, x_row, bottom, f.oc);
  pool_rows(row, windows, buffer, bottom, f.oc);
}

}  // namespace

void conv_block(const ConvBlockShape& s, const float* x, const float* w, const float* b, float* y,
                uint8_t* argmax, int threads) {
  const int64_t ocp = round_up(s.oc, kLanes);
  const bool transformed = s.kh == 3 && s.kw == 3 && s.c % kLanes == 0;
  const bool single = s.kh == 3 && s.kw == 3 && s.c == 1;
  Correlation f = {s.c, ocp, s.kh, s.kw, nullptr, nullptr, false};
  const int64_t packed_size = round_up(ocp * f.taps() + ocp, 16);
  const int64_t transformed_size = transformed ? Winograd<F2>::weights_size(s.c, ocp) : 0;
  const int64_t worker_size =
      round_up(max_of(4 * s.pw() * ocp, transformed ? Winograd<F2>::scratch_size(s.c) : 0), 16);
  float* packed = static_cast<float*>(
      scratch(sizeof(float) * static_cast<size_t>(packed_size + transformed_size + threads * worker_size)));
  float* bias = packed + ocp * f.taps();
  float* workers = packed + packed_size + transformed_size;
  pack_weights(f, packed, [&](int64_t o, int64_t c, int64_t ky, int64_t kx) {
    return o < s.oc ? w[((o * s.c + c) * s.kh + ky) * s.kw + kx] : 0.0f;
  });
  for (int64_t o = 0; o < ocp; ++o) bias[o] = o < s.oc ? b[o] : 0;
  f.weights = packed;
  f.bias = bias;
  const Winograd<F2> g = {s.c, ocp, packed + packed_size, bias};
  if (transformed) transform_weights<F2>(f, packed, packed + packed_size);
  const int64_t x_row = s.x().row();
  parallel_for(s.n, threads, [&](int64_t n, int worker) {
    float* block = workers + worker * worker_size;
    zero_border(s.y(), y + n * s.y().sample());
    for (int64_t py = 0; py < s.ph(); ++py) {
      const float* from = x + n * s.x().sample() + 2 * py * x_row;
      const PooledRow row = {s.oc, y + s.y().at(n, py, 0), argmax + (n * s.ph() + py) * s.pw() * s.oc};
      const bool done = transformed ? winograd_row(g, s.pw(), from, x_row, row, block)
                        : single    ? single_row(f, s.pw(), from, x_row, row)
                                    : direct_row(f, s.pw(), from, x_row, row);
      if (!done) careful_row(f, s.pw(), from, x_row, row, block);
    }
  });
}

}  // namespace mnist100::MNIST100_ISA
