#include "conv_operands.cuh"
#include "ops.cuh"

namespace mnist100::cuda {
namespace {

struct SameResult {
  PixelRows pixels;
  PaddedSizes y;
  const float* b;  // null: none
  bool relu;
  float* to;
  __device__ void operator()(int i, int rows, int o, const float (&sums)[4]) const {
    const float bias = b ? b[o] : 0.0f;
    for (int r = 0; r < rows; ++r) {
      const Pixel p = pixels(i + r);
      const float value = sums[r] + bias;
      to[y.at(p.n, p.y, p.x) + o] = relu ? relu_of(value) : value;
    }
  }
};

struct SameGradient {
  PaddedSizes y;
  const float *dy, *values;  // values null: no ReLU
  __device__ float operator()(const Pixel& p, int o) const {
    const int at = y.at(p.n, p.y, p.x) + o;
    return !values || values[at] > 0.0f ? dy[at] : 0.0f;
  }
};

PixelRows pixels_of(const ConvSameShape& s) { return {static_cast<int>(s.h), static_cast<int>(s.w)}; }

int rows_of(const ConvSameShape& s) { return static_cast<int>(s.n * s.h * s.w); }

}  // namespace

void conv_same(const ConvSameShape& s, const float* x, const float* w, const float* b, bool relu, float* y,
               const Queue& queue) {
  const Taps taps{PaddedSizes(s.x()), static_cast<int>(s.kh), static_cast<int>(s.kw)};
  const PixelRows pixels = pixels_of(s);
  multiply(rows_of(s), static_cast<int>(s.oc), taps.count(), TapsOfPixel<PixelRows>{taps, pixels, x},
           TapWeights{taps, w}, SameResult{pixels, PaddedSizes(s.y()), b, relu, y}, queue);
}

void conv_same_backward(const ConvSameShape& s, const float* dy, const float* x, const float* y,
                        const float* w, float* dx, float* dw, float* db, const Queue& queue) {
  const SameGradient g{PaddedSizes(s.y()), dy, y};
  conv_gradients(s, g, pixels_of(s), rows_of(s), x, w, dx, dw, db, queue);
}

}  // namespace mnist100::cuda
