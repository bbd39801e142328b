#include "band_gradient.cuh"
#include "band_product.cuh"
#include "ops.cuh"
#include "single_gradient.cuh"
#include "single_product.cuh"

namespace mnist100::cuda {
namespace {

// What becomes of four channels of a window, whose places are the four rows of the sums.
struct PooledResult {
  WindowRows windows;
  PooledPlaces y;
  int channels;
  const float* b;
  float* to;
  uint8_t* argmax;
  bool marks_dead, aligned;
  PooledResult(const ConvBlockShape& s, const float* b_, const PooledPlaces& y_, float* to_, uint8_t* argmax_,
               bool marks_dead_)
      : windows(static_cast<int>(s.ph()), static_cast<int>(s.pw())),
        y(y_),
        channels(static_cast<int>(s.oc)),
        b(b_),
        to(to_),
        argmax(argmax_),
        marks_dead(marks_dead_),
        aligned(channels % 4 == 0 && y.is_in_fours() && is_aligned(to) && is_aligned(argmax)) {}

  __device__ void operator()(int i, int, int o, int count, const Sums& sums) const {
    float values[4];
    uint32_t places[4];
    MNIST100_UNROLL
    for (int c = 0; c < 4; ++c) {
      const float bias = c < count ? b[o + c] : 0.0f;
      float at_place[4];
      MNIST100_UNROLL
      for (int place = 0; place < 4; ++place) at_place[place] = sums[c][place] + bias;
      const float largest =
          max_or_nan(max_or_nan(at_place[0], at_place[1]), max_or_nan(at_place[2], at_place[3]));
      values[c] = max_or_nan(largest, 0.0f);
      places[c] = 3;  // the first of equals; where none is positive, all are equal
      MNIST100_UNROLL
      for (uint32_t place = 3; place-- > 0;)
        if (at_place[place] == largest) places[c] = place;
      if (values[c] == 0.0f) places[c] = 0;
      if (marks_dead && !(values[c] > 0.0f)) places[c] = kDead;
    }
    if (!(values[0] + values[1] + values[2] + values[3] >= 0.0f) && !marks_dead) find_nans(sums, places);
    const Pixel at = windows.window(i);
    float* const y_at = to + y.at(at.n, at.y, at.x, o);
    uint8_t* const argmax_at = argmax + i / 4 * channels + o;
    if (aligned && count == 4) {
      store_quad(y_at, values);
      *reinterpret_cast<uint32_t*>(argmax_at) =
          places[0] | places[1] << 8 | places[2] << 16 | places[3] << 24;
      return;
    }
    MNIST100_UNROLL
    for (int c = 0; c < 4; ++c) {
      if (c >= count) return;
      y_at[c * y.channel] = values[c];
      argmax_at[c] = static_cast<uint8_t>(places[c]);
    }
  }

 private:
  // A NaN beats everything before it.
  __device__ static void find_nans(const Sums& sums, uint32_t (&places)[4]) {
    MNIST100_UNROLL
    for (int c = 0; c < 4; ++c) MNIST100_UNROLL
    for (uint32_t place = 0; place < 4; ++place)
      if (sums[c][place] != sums[c][place]) places[c] = place;
  }
};

// What reaches the places of windows, four rows: dy at the one that the window chose.
struct PooledChannels {
  static constexpr bool kQuadOfK = true, kFastK = false;
  struct Window {
    int in_dy, in_argmax;
  };
  struct Raw {
    float x;
    int chosen;
  };
  WindowRows windows;
  PooledPlaces places;
  int channels;
  const float* dy;
  const uint8_t* argmax;
  __device__ int index(int o) const { return o; }
  __device__ Window depth(int row) const {
    const Pixel at = windows.window(row);
    return {places.at(at.n, at.y, at.x, 0), row / 4 * channels};
  }
  __device__ void load(int o, const Window& w, int, Raw& to) const {
    to.x = dy[w.in_dy + o * places.channel];
    to.chosen = argmax[w.in_argmax + o];
  }
  __device__ void finish(const Raw& raw, float (&x)[4]) const {
    MNIST100_UNROLL
    for (int place = 0; place < 4; ++place) x[place] = raw.chosen == place ? raw.x : 0.0f;
  }
};

// A thread a channel of a window.
__global__ void spread_kernel(WindowRows windows, PooledPlaces places, Divisor channels, PaddedSizes to,
                              int size, const float* dy, const uint8_t* argmax, float* dense) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const int window = channels.quotient(i), o = i - window * channels.by(), chosen = argmax[i];
  const Pixel at = windows.window(4 * window);
  const float gradient = dy[places.at(at.n, at.y, at.x, o)];
  MNIST100_UNROLL
  for (int place = 0; place < 4; ++place)
    dense[to.at(at.n, 2 * at.y + place / 2, 2 * at.x + place % 2) + o] = chosen == place ? gradient : 0.0f;
}

// A thread an element of y's interior.
__global__ void mark_kernel(PaddedSizes s, int size, const float* y, const uint8_t* argmax, uint8_t* marked) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const PaddedPlace at = s.interior(i);
  marked[i] = y[s.at(at.n, at.y, at.x) + at.c] > 0.0f ? argmax[i] : static_cast<uint8_t>(kDead);
}

// A convolution of one channel: products of nine terms are not worth gathering. A thread has four output
// channels of a window, and its neighbours the other channels of it.
constexpr int kSingles = 16;                     // channels of a block
constexpr int kWindows = kBlock * 4 / kSingles;  // and windows

__global__ void __launch_bounds__(kBlock)
    single_channel_kernel(PaddedSizes x_sizes, int count, const float* x, const float* w,
                          PooledResult result) {
  await_previous();
  alignas(16) __shared__ float weights[9][kSingles];
  const int first = static_cast<int>(blockIdx.y) * kSingles;
  const int window = static_cast<int>(blockIdx.x) * kWindows + static_cast<int>(threadIdx.x) / (kSingles / 4);
  const int o = static_cast<int>(threadIdx.x) % (kSingles / 4) * 4, left = result.channels - first - o;
  const bool is_one = window < count && left > 0;
  float patch[4][4] = {};
  if (is_one) {
    const Pixel at = result.windows.window(4 * window);
    const float* corner = x + x_sizes.at(at.n, 2 * at.y - 1, 2 * at.x - 1);
    MNIST100_UNROLL
    for (int row = 0; row < 4; ++row) MNIST100_UNROLL
    for (int column = 0; column < 4; ++column) patch[row][column] = corner[row * x_sizes.width() + column];
  }
  for (int at = static_cast<int>(threadIdx.x); at < 9 * kSingles; at += kBlock)
    weights[at % 9][at / 9] = first + at / 9 < result.channels ? w[first * 9 + at] : 0.0f;
  __syncthreads();
  if (!is_one) return;
  Sums sums = {};
  MNIST100_UNROLL
  for (int tap = 0; tap < 9; ++tap) {
    float weight[4];
    load_quad(&weights[tap][o], true, 4, weight);
    MNIST100_UNROLL
    for (int c = 0; c < 4; ++c) MNIST100_UNROLL
    for (int place = 0; place < 4; ++place)
      sums[c][place] += patch[place / 2 + tap / 3][place % 2 + tap % 3] * weight[c];
  }
  result(4 * window, 4, first + o, left < 4 ? left : 4, sums);
}

WindowRows windows_of(const ConvBlockShape& s) {
  return {static_cast<int>(s.ph()), static_cast<int>(s.pw())};
}

int rows_of(const ConvBlockShape& s) { return static_cast<int>(s.n * s.ph() * s.pw() * 4); }

bool is_16_or_32(int64_t channels) { return channels == 16 || channels == 32; }

}  // namespace

bool has_pooled_bands(const ConvBlockShape& s, Precision precision) {
  return precision != Precision::kFp32 && s.kh == 3 && s.kw == 3 && is_16_or_32(s.c) && is_16_or_32(s.oc);
}

void conv_block(const ConvBlockShape& s, const float* x, const float* w, const float* b,
                const PooledPlaces& places, float* y, uint8_t* argmax, bool marks_dead, const Queue& queue) {
  const Taps taps(PaddedSizes(s.x()), static_cast<int>(s.kh), static_cast<int>(s.kw));
  const WindowRows windows = windows_of(s);
  const PooledResult result(s, b, places, y, argmax, marks_dead);
  const WindowBand band(static_cast<int>(s.ph()), static_cast<int>(s.pw()), taps.x.width());
  if (s.c == 1 && s.kh == 3 && s.kw == 3) {
    if (single_product(taps.x, static_cast<int>(s.n), static_cast<int>(s.oc), x, band, w, result, queue))
      return;
    const int count = rows_of(s) / 4;
    const dim3 grid(static_cast<unsigned>(ceil_div(count, kWindows)),
                    static_cast<unsigned>(ceil_div(s.oc, kSingles)));
    launch(single_channel_kernel, grid, dim3(kBlock), queue, PaddedSizes(s.x()), count, x, w, result);
    return;
  }
  if (s.kh == 3 && s.kw == 3 && is_aligned(x) &&
      band_product(taps.x, static_cast<int>(s.n), static_cast<int>(s.oc), DensePixels{x, taps.x.height()},
                   band, TapWeights{taps, w}, result, queue))
    return;
  multiply<Tall>(rows_of(s), static_cast<int>(s.oc), taps.count(), TapsOfPixel<WindowRows>(taps, windows, x),
                 Singly<TapWeights>{{taps, w}}, result, queue);
}

void mark_dead(const PaddedShape& s, const float* y, const uint8_t* argmax, uint8_t* marked,
               cudaStream_t stream) {
  const int64_t size = s.count() * s.c;
  launch_elements(mark_kernel, size, stream, PaddedSizes(s), static_cast<int>(size), y, argmax, marked);
}

void spread_pooled(const ConvBlockShape& s, const float* dy, const PooledPlaces& places,
                   const uint8_t* argmax, float* dense, cudaStream_t stream) {
  const int64_t size = s.n * s.ph() * s.pw() * s.oc;
  launch_elements(spread_kernel, size, stream, windows_of(s), places, Divisor(static_cast<int>(s.oc)),
                  PaddedSizes(dense_of(same_shape(s))), static_cast<int>(size), dy, argmax, dense);
}

bool pooled_input_gradient(const ConvBlockShape& s, const float* dy, const PooledPlaces& places,
                           const uint8_t* argmax, const float* w, float* dx, const Queue& queue) {
  if (!has_pooled_bands(s, queue.precision) || !is_aligned(argmax)) return false;
  const ConvSameShape same = same_shape(s);
  const PaddedSizes sizes(dense_of(same)), xs(s.x());
  const int h = static_cast<int>(s.h), width = static_cast<int>(s.w), c = static_cast<int>(s.c);
  return band_product(sizes, static_cast<int>(s.n), c, PooledPixels(s, places, dy, argmax),
                      PixelBand(h, width, sizes.width()), WeightsOfInput(w, c, static_cast<int>(s.oc), 9),
                      PaddedResult<PixelBand::kRowsApart>(xs, PixelRows(h, width), dx), queue);
}

void pooled_weight_gradient(const ConvBlockShape& s, const float* dy, const PooledPlaces& places,
                            const float* x, const uint8_t* argmax, float* dw, float* db, const Queue& queue) {
  if (single_gradient(s, dy, places, x, argmax, dw, db, queue)) return;
  if (has_pooled_bands(s, queue.precision) && is_aligned(argmax) &&
      band_gradient(same_shape(s), PooledPixels(s, places, dy, argmax), x, dw, db, queue))
    return;
  weight_gradient(s, PooledChannels{windows_of(s), places, static_cast<int>(s.oc), dy, argmax}, windows_of(s),
                  rows_of(s), x, dw, db, queue);
}

}  // namespace mnist100::cuda
