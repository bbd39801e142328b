#include "conv_operands.cuh"
#include "ops.cuh"

namespace mnist100::cuda {
namespace {

// The four sums that a thread holds are the four places of one pooling window.
struct PooledResult {
  WindowRows windows;
  PaddedSizes y;
  const float* b;
  float* to;
  uint8_t* argmax;
  __device__ void operator()(int i, int, int o, const float (&sums)[4]) const {
    float largest = relu_of(sums[0] + b[o]);
    int best = 0;
    for (int place = 1; place < 4; ++place) {
      const float value = relu_of(sums[place] + b[o]);
      if (!beats(value, largest)) continue;
      largest = value;
      best = place;
    }
    const Pixel first = windows(i);
    to[y.at(first.n, first.y / 2, first.x / 2) + o] = largest;
    argmax[static_cast<int64_t>(i / 4) * y.c + o] = static_cast<uint8_t>(best);
  }
};

struct PooledGradient {
  PaddedSizes y;
  const float *dy, *values;
  const uint8_t* argmax;
  __device__ float operator()(const Pixel& p, int o) const {
    const int py = p.y / 2, px = p.x / 2;
    if (py >= y.h || px >= y.w) return 0.0f;
    const int place = p.y % 2 * 2 + p.x % 2, at = y.at(p.n, py, px) + o;
    const bool chosen = argmax[((p.n * y.h + py) * y.w + px) * y.c + o] == place;
    return chosen && values[at] > 0.0f ? dy[at] : 0.0f;
  }
};

WindowRows windows_of(const ConvBlockShape& s) {
  return {static_cast<int>(s.ph()), static_cast<int>(s.pw())};
}

int rows_of(const ConvBlockShape& s) { return static_cast<int>(s.n * s.ph() * s.pw() * 4); }

}  // namespace

void conv_block(const ConvBlockShape& s, const float* x, const float* w, const float* b, float* y,
                uint8_t* argmax, const Queue& queue) {
  const Taps taps{PaddedSizes(s.x()), static_cast<int>(s.kh), static_cast<int>(s.kw)};
  const WindowRows windows = windows_of(s);
  multiply(rows_of(s), static_cast<int>(s.oc), taps.count(), TapsOfPixel<WindowRows>{taps, windows, x},
           TapWeights{taps, w}, PooledResult{windows, PaddedSizes(s.y()), b, y, argmax}, queue);
}

void conv_block_backward(const ConvBlockShape& s, const float* dy, const float* x, const float* y,
                         const uint8_t* argmax, const float* w, float* dx, float* dw, float* db,
                         const Queue& queue) {
  const PooledGradient g{PaddedSizes(s.y()), dy, y, argmax};
  conv_gradients(s, g, windows_of(s), rows_of(s), x, w, dx, dw, db, queue);
}

}  // namespace mnist100::cuda
