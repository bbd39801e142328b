#include "band_gradient.cuh"
#include "band_product.cuh"
#include "ops.cuh"

namespace mnist100::cuda {
namespace {

template <int kApart = 1>
struct SameResult {
  PaddedResult<kApart> to;
  const float* b;  // null: none
  bool relu;
  __device__ void operator()(int i, int rows, int o, int channels, const Sums& sums) const {
    Sums values;
    MNIST100_UNROLL
    for (int c = 0; c < 4; ++c) {
      const float bias = b && c < channels ? b[o + c] : 0.0f;
      MNIST100_UNROLL
      for (int r = 0; r < 4; ++r) {
        const float value = sums[c][r] + bias;
        values[c][r] = relu ? relu_of(value) : value;
      }
    }
    to(i, rows, o, channels, values);
  }
};

// A thread an element of y's interior.
__global__ void spread_same_kernel(PaddedSizes ys, PaddedSizes to, int size, const float* dy, const float* y,
                                   float* dense) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const PaddedPlace p = ys.interior(i);
  const int at = ys.at(p.n, p.y, p.x) + p.c;
  dense[to.at(p.n, p.y, p.x) + p.c] = !y || y[at] > 0.0f ? dy[at] : 0.0f;
}

PixelRows pixels_of(const ConvSameShape& s) { return {static_cast<int>(s.h), static_cast<int>(s.w)}; }

int rows_of(const ConvSameShape& s) { return static_cast<int>(s.n * s.h * s.w); }

bool is_3x3(const ConvSameShape& s) { return s.kh == 3 && s.kw == 3; }

// The pixels of images of the sizes given, in bands.
PixelBand band_of(const PaddedSizes& s) { return {s.h, s.w, s.width()}; }

}  // namespace

void conv_same(const ConvSameShape& s, const float* x, const float* w, const float* b, bool relu, float* y,
               const Queue& queue) {
  const Taps taps(PaddedSizes(s.x()), static_cast<int>(s.kh), static_cast<int>(s.kw));
  const PixelRows pixels = pixels_of(s);
  const PaddedSizes ys(s.y());
  const int oc = static_cast<int>(s.oc);
  constexpr int kApart = PixelBand::kRowsApart;
  if (is_3x3(s) && is_aligned(x) &&
      band_product(taps.x, static_cast<int>(s.n), oc, DensePixels{x, taps.x.height()}, band_of(taps.x),
                   TapWeights{taps, w}, SameResult<kApart>{{ys, pixels, y}, b, relu}, queue))
    return;
  multiply<Tall>(rows_of(s), oc, taps.count(), TapsOfPixel<PixelRows>(taps, pixels, x),
                 Singly<TapWeights>{{taps, w}}, SameResult<>{{ys, pixels, y}, b, relu}, queue);
}

void spread_same(const ConvSameShape& s, const float* dy, const float* y, float* dense, cudaStream_t stream) {
  const int64_t size = s.y().count() * s.oc;
  launch_elements(spread_same_kernel, size, stream, PaddedSizes(s.y()), PaddedSizes(dense_of(s)),
                  static_cast<int>(size), dy, y, dense);
}

void dense_input_gradient(const ConvSameShape& s, const float* dense, const float* w, float* dx,
                          const Queue& queue) {
  const int oc = static_cast<int>(s.oc), c = static_cast<int>(s.c);
  const Taps taps(PaddedSizes(dense_of(s)), static_cast<int>(s.kh), static_cast<int>(s.kw));
  const PixelRows pixels = pixels_of(s);
  const PaddedSizes xs(s.x());
  const WeightsOfInput weights(w, c, oc, taps.kh * taps.kw);
  constexpr int kApart = PixelBand::kRowsApart;
  if (is_3x3(s) && is_aligned(dense) &&
      band_product(taps.x, static_cast<int>(s.n), c, DensePixels{dense, taps.x.height()}, band_of(taps.x),
                   weights, PaddedResult<kApart>(xs, pixels, dx), queue))
    return;
  multiply<Tall>(rows_of(s), c, taps.count(), TapsOfPixel<PixelRows>(taps, pixels, dense),
                 Singly<WeightsOfInput>{weights}, PaddedResult<>(xs, pixels, dx), queue);
}

void dense_weight_gradient(const ConvSameShape& s, const float* dense, const float* x, float* dw, float* db,
                           const Queue& queue) {
  const int height = PaddedSizes(dense_of(s)).height();
  if (is_aligned(dense) && band_gradient(s, DensePixels{dense, height}, x, dw, db, queue)) return;
  weight_gradient(s, DenseChannels(dense_of(s), dense), pixels_of(s), rows_of(s), x, dw, db, queue);
}

}  // namespace mnist100::cuda
