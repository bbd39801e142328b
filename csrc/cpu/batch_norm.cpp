// Batch normalisation on zero-padded NHWC, with ReLU and max-pool 2x2 behind it in registers. Every pass goes
// sample by sample and, in a sample, through as many channels as fill a few vectors.
#include "ops.h"
#include "pool_window.h"

namespace mnist100::MNIST100_ISA {
namespace {

// V vectors of channels side by side; with Whole false one vector of which `rest` channels exist.
template <int V, bool Whole>
struct Channels {
  int64_t first, rest;

  MNIST100_INLINE void load_at(const float* p, Vec (&v)[V]) const {
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) v[i] = Whole ? load(p + i * kLanes) : load_first(p, rest);
  }
  MNIST100_INLINE void store_at(float* p, const Vec (&v)[V]) const {
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) {
      if (Whole)
        store(p + i * kLanes, v[i]);
      else
        store_first(p, v[i], rest);
    }
  }
  MNIST100_INLINE IntVec places_at(const uint8_t* p, int i) const {
    if (Whole) return widen(p + i * kLanes);
    IntVec place = {};
    for (int64_t lane = 0; lane < rest; ++lane) place[lane] = p[lane];
    return place;
  }
};

// Calls f(Channels) for all of c channels.
template <class F>
MNIST100_INLINE void for_each_channels(int64_t c, F f) {
  int64_t first = 0;
  for (; first + 4 * kLanes <= c; first += 4 * kLanes) f(Channels<4, true>{first, 0});
  for (; first + 2 * kLanes <= c; first += 2 * kLanes) f(Channels<2, true>{first, 0});
  for (; first + kLanes <= c; first += kLanes) f(Channels<1, true>{first, 0});
  if (first < c) f(Channels<1, false>{first, c - first});
}

// Calls f(values) for every pixel of a sample, whose first pixel's channels are at x.
template <int V, bool Whole, class F>
MNIST100_INLINE void for_each_pixel(const Channels<V, Whole>& lanes, const PaddedShape& s, const float* x,
                                    F f) {
  for (int64_t iy = 0; iy < s.h; ++iy, x += s.row())
    for (int64_t ix = 0; ix < s.w; ++ix) {
      Vec values[V];
      lanes.load_at(x + ix * s.c, values);
      f(values);
    }
}

// A sample's mean, and the sums of its deviations from that mean as rounded and of their squares. The sample
// is in cache when it is read again.
template <int V, bool Whole>
void sample_stats(const Channels<V, Whole> lanes, const PaddedShape& s, const float* x, float* mean,
                  float* deviations, float* squares) {
  Vec centre[V] = {}, sum[V] = {}, square[V] = {};
  for_each_pixel(lanes, s, x, [&](const Vec(&values)[V]) MNIST100_LAMBDA_INLINE {
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) centre[i] += values[i];
  });
  for (int i = 0; i < V; ++i) centre[i] *= 1.0f / static_cast<float>(s.h * s.w);
  for_each_pixel(lanes, s, x, [&](const Vec(&values)[V]) MNIST100_LAMBDA_INLINE {
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) {
      const Vec deviation = values[i] - centre[i];
      sum[i] += deviation;
      square[i] += deviation * deviation;
    }
  });
  lanes.store_at(mean + lanes.first, centre);
  lanes.store_at(deviations + lanes.first, sum);
  lanes.store_at(squares + lanes.first, square);
}

// The parameters of a few channels: z = (x - mean) * scale + beta.
template <int V>
struct Affine {
  Vec mean[V], scale[V], beta[V];

  template <bool Whole>
  MNIST100_INLINE Affine(const Channels<V, Whole>& lanes, const BatchNormParams<float>& p) {
    Vec inv_std[V];
    lanes.load_at(p.mean + lanes.first, mean);
    lanes.load_at(p.inv_std + lanes.first, inv_std);
    lanes.load_at(p.gamma + lanes.first, scale);
    lanes.load_at(p.beta + lanes.first, beta);
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) scale[i] *= inv_std[i];
  }
  MNIST100_INLINE Vec of_deviation(int i, Vec deviation) const { return deviation * scale[i] + beta[i]; }
};

template <int V, bool Whole>
void normalise(const Channels<V, Whole> lanes, const BatchNormShape& s, const BatchNormParams<float>& p,
               const float* x, float* y) {
  const Affine<V> f(lanes, p);
  for (int64_t iy = 0; iy < s.h; ++iy)
    for (int64_t ix = 0; ix < s.w; ++ix) {
      Vec v[V];
      lanes.load_at(x + s.x().at(0, iy, ix) + lanes.first, v);
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) {
        v[i] = f.of_deviation(i, v[i] - f.mean[i]);
        v[i] = v[i] < Vec{} ? Vec{} : v[i];  // a NaN is kept
      }
      lanes.store_at(y + s.y().at(0, iy, ix) + lanes.first, v);
    }
}

// The four pixels of a window.
template <int V, bool Whole>
MNIST100_INLINE void load_window(const Channels<V, Whole>& lanes, const PaddedShape& x, const float* from,
                                 Vec (&window)[4][V]) {
  lanes.load_at(from, window[0]);
  lanes.load_at(from + x.c, window[1]);
  lanes.load_at(from + x.row(), window[2]);
  lanes.load_at(from + x.row() + x.c, window[3]);
}

template <int V, bool Whole>
void normalise_pooled(const Channels<V, Whole> lanes, const BatchNormShape& s,
                      const BatchNormParams<float>& p, const float* x, float* y, uint8_t* argmax) {
  const Affine<V> f(lanes, p);
  for (int64_t py = 0; py < s.y().h; ++py) {
    const PooledRow row = {s.c, y + s.y().at(0, py, 0), argmax + py * s.y().w * s.c};
    for (int64_t px = 0; px < s.y().w; ++px) {
      Vec window[4][V];
      load_window(lanes, s.x(), x + s.x().at(0, 2 * py, 2 * px) + lanes.first, window);
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) {
        Vec z[4];
#pragma GCC unroll 4
        for (int at = 0; at < 4; ++at) z[at] = f.of_deviation(i, window[at][i] - f.mean[i]);
        IntVec place;
        const Vec best = first_largest(z, place);
        row.store_at(px, lanes.first + i * kLanes, best, place);
      }
    }
  }
}

// The values of x that those of y at (iy, ix) come from: with Pool the ones at the noted places.
template <bool Pool, int V, bool Whole>
MNIST100_INLINE void load_sources(const Channels<V, Whole>& lanes, const BatchNormShape& s, const float* x,
                                  const uint8_t* argmax, int64_t iy, int64_t ix, Vec (&v)[V]) {
  if constexpr (Pool) {
    Vec window[4][V];
    load_window(lanes, s.x(), x + s.x().at(0, 2 * iy, 2 * ix) + lanes.first, window);
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) {
      const IntVec place = lanes.places_at(argmax + (iy * s.y().w + ix) * s.c + lanes.first, i);
      const Vec top = place == 0 ? window[0][i] : window[1][i];
      const Vec bottom = place == 2 ? window[2][i] : window[3][i];
      v[i] = place < 2 ? top : bottom;
    }
  } else {
    lanes.load_at(x + s.x().at(0, iy, ix) + lanes.first, v);
  }
}

// Channel sums of g and of g * (x - mean) over a sample.
template <bool Pool, int V, bool Whole>
void gradient_sums(const Channels<V, Whole> lanes, const BatchNormShape& s, const BatchNormParams<float>& p,
                   const float* dy, const float* x, const uint8_t* argmax, float* plain, float* weighted) {
  const Affine<V> f(lanes, p);
  Vec sum[V] = {}, sum_x[V] = {};
  for (int64_t iy = 0; iy < s.y().h; ++iy)
    for (int64_t ix = 0; ix < s.y().w; ++ix) {
      Vec g[V], v[V];
      lanes.load_at(dy + s.y().at(0, iy, ix) + lanes.first, g);
      load_sources<Pool>(lanes, s, x, argmax, iy, ix, v);
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) {
        const Vec deviation = v[i] - f.mean[i];
        const Vec passes = f.of_deviation(i, deviation) > Vec{} ? g[i] : Vec{};
        sum[i] += passes;
        sum_x[i] += passes * deviation;
      }
    }
  lanes.store_at(plain + lanes.first, sum);
  lanes.store_at(weighted + lanes.first, sum_x);
}

// dx = scale * g - (offset + slope * (x - mean)).
template <int V>
struct Slope {
  Vec offset[V], slope[V];
};

template <int V, bool Whole>
void input_gradient(const Channels<V, Whole> lanes, const BatchNormShape& s, const BatchNormParams<float>& p,
                    const float* offsets, const float* slopes, const float* dy, const float* x, float* dx) {
  const Affine<V> f(lanes, p);
  Slope<V> mean_part;
  lanes.load_at(offsets + lanes.first, mean_part.offset);
  lanes.load_at(slopes + lanes.first, mean_part.slope);
  for (int64_t iy = 0; iy < s.h; ++iy)
    for (int64_t ix = 0; ix < s.w; ++ix) {
      Vec g[V], v[V];
      const int64_t at = s.x().at(0, iy, ix) + lanes.first;
      lanes.load_at(dy + s.y().at(0, iy, ix) + lanes.first, g);
      lanes.load_at(x + at, v);
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) {
        const Vec deviation = v[i] - f.mean[i];
        const Vec passes = f.of_deviation(i, deviation) > Vec{} ? g[i] : Vec{};
        v[i] = passes * f.scale[i] - (deviation * mean_part.slope[i] + mean_part.offset[i]);
      }
      lanes.store_at(dx + at, v);
    }
}

template <int V, bool Whole>
void input_gradient_pooled(const Channels<V, Whole> lanes, const BatchNormShape& s,
                           const BatchNormParams<float>& p, const float* offsets, const float* slopes,
                           const float* dy, const float* x, const uint8_t* argmax, float* dx) {
  const Affine<V> f(lanes, p);
  Slope<V> mean_part;
  lanes.load_at(offsets + lanes.first, mean_part.offset);
  lanes.load_at(slopes + lanes.first, mean_part.slope);
  const PaddedShape xs = s.x();
  const int64_t steps[4] = {0, xs.c, xs.row(), xs.row() + xs.c};
  for (int64_t py = 0; py < s.y().h; ++py)
    for (int64_t px = 0; px < s.y().w; ++px) {
      Vec g[V], window[4][V];
      const int64_t at = xs.at(0, 2 * py, 2 * px) + lanes.first;
      lanes.load_at(dy + s.y().at(0, py, px) + lanes.first, g);
      load_window(lanes, xs, x + at, window);
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) {
        const IntVec place = lanes.places_at(argmax + (py * s.y().w + px) * s.c + lanes.first, i);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          const Vec deviation = window[j][i] - f.mean[i];
          const IntVec live = (f.of_deviation(i, deviation) > Vec{}) & (place == j);
          window[j][i] =
              (live ? g[i] : Vec{}) * f.scale[i] - (deviation * mean_part.slope[i] + mean_part.offset[i]);
        }
      }
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) lanes.store_at(dx + at + steps[j], window[j]);
    }
  // An odd last row and column have no window, and no gradient but by way of the statistics.
  const auto rest = [&](int64_t iy, int64_t ix) MNIST100_LAMBDA_INLINE {
    Vec v[V];
    lanes.load_at(x + xs.at(0, iy, ix) + lanes.first, v);
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i)
      v[i] = Vec{} - ((v[i] - f.mean[i]) * mean_part.slope[i] + mean_part.offset[i]);
    lanes.store_at(dx + xs.at(0, iy, ix) + lanes.first, v);
  };
  for (int64_t iy = 0; iy < s.h; ++iy)
    for (int64_t ix = iy < 2 * s.y().h ? 2 * s.y().w : 0; ix < s.w; ++ix) rest(iy, ix);
}

}  // namespace

void batch_norm_stats(const PaddedShape& s, const float* x, float* mean, float* var, int threads) {
  float* parts = scratch_floats(3 * s.n * s.c);  // of each sample: means, sums of deviations, of squares
  parallel_for(s.n, threads, [&](int64_t n, int) {
    float* part = parts + 3 * n * s.c;
    for_each_channels(s.c, [&](auto lanes) {
      sample_stats(lanes, s, x + s.at(n, 0, 0) + lanes.first, part, part + s.c, part + 2 * s.c);
    });
  });
  const double pixels = static_cast<double>(s.h * s.w), samples = static_cast<double>(s.n);
  for (int64_t c = 0; c < s.c; ++c) {
    double first = 0, total = 0, squares = 0;
    for (int64_t n = 0; n < s.n; ++n) {
      const float* part = parts + 3 * n * s.c + c;
      const double deviations = static_cast<double>(part[s.c]);
      const double centre = static_cast<double>(part[0]) + deviations / pixels;
      if (n == 0) first = centre;  // means are added as differences, which do not cancel
      total += centre - first;
      // Sum of squares about the sample's exact mean, and what that mean's own distance will add below.
      squares += static_cast<double>(part[2 * s.c]) - deviations * deviations / pixels;
      squares += pixels * (centre - first) * (centre - first);
    }
    const double offset = total / samples;
    mean[c] = static_cast<float>(first + offset);
    const double variance = squares / (pixels * samples) - offset * offset;
    var[c] = variance > 0 || variance != variance ? static_cast<float>(variance) : 0.0f;
  }
}

void batch_norm_relu(const BatchNormShape& s, const float* x, const BatchNormParams<float>& p, float* y,
                     uint8_t* argmax, int threads) {
  parallel_for(s.n, threads, [&](int64_t n, int) {
    const float* from = x + n * s.x().sample();
    float* to = y + n * s.y().sample();
    zero_border(s.y(), to);
    for_each_channels(s.c, [&](auto lanes) {
      if (s.pool)
        normalise_pooled(lanes, s, p, from, to, argmax + n * s.y().h * s.y().w * s.c);
      else
        normalise(lanes, s, p, from, to);
    });
  });
}

void batch_norm_relu_backward(const BatchNormShape& s, const float* dy, const float* x, const uint8_t* argmax,
                              const BatchNormParams<float>& p, float* dx, float* dgamma, float* dbeta,
                              int threads) {
  float* parts = scratch_floats(2 * s.n * s.c + 2 * s.c);  // of each sample: sums of g, of g * (x - mean)
  float* offsets = parts + 2 * s.n * s.c;
  float* slopes = offsets + s.c;
  const int64_t windows = s.y().h * s.y().w * s.c;
  parallel_for(s.n, threads, [&](int64_t n, int) {
    float* part = parts + 2 * n * s.c;
    for_each_channels(s.c, [&](auto lanes) {
      const float* dy_sample = dy + n * s.y().sample();
      const float* from = x + n * s.x().sample();
      if (s.pool)
        gradient_sums<true>(lanes, s, p, dy_sample, from, argmax + n * windows, part, part + s.c);
      else
        gradient_sums<false>(lanes, s, p, dy_sample, from, nullptr, part, part + s.c);
    });
  });
  for (int64_t c = 0; c < s.c; ++c) {
    double sum = 0, weighted = 0;
    for (int64_t n = 0; n < s.n; ++n) {
      sum += static_cast<double>(parts[2 * n * s.c + c]);
      weighted += static_cast<double>(parts[(2 * n + 1) * s.c + c]);
    }
    const double inv_std = static_cast<double>(p.inv_std[c]), count = static_cast<double>(s.x().count());
    const double scale = static_cast<double>(p.gamma[c]) * inv_std;
    dbeta[c] = static_cast<float>(sum);
    dgamma[c] = static_cast<float>(weighted * inv_std);
    offsets[c] = static_cast<float>(scale * sum / count);
    slopes[c] = static_cast<float>(scale * inv_std * inv_std * weighted / count);
  }
  parallel_for(s.n, threads, [&](int64_t n, int) {
    const float* dy_sample = dy + n * s.y().sample();
    const float* from = x + n * s.x().sample();
    float* to = dx + n * s.x().sample();
    for_each_channels(s.c, [&](auto lanes) {
      if (s.pool)
        input_gradient_pooled(lanes, s, p, offsets, slopes, dy_sample, from, argmax + n * windows, to);
      else
        input_gradient(lanes, s, p, offsets, slopes, dy_sample, from, to);
    });
  });
}

}  // namespace mnist100::MNIST100_ISA
