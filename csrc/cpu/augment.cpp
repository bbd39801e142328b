// The input kernel: two digits -> one augmented, standardised 28x56 sample.
#include "../philox.h"
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int kSide = 28;
constexpr int kWidth = 2 * kSide;
constexpr float kCentre = 13.5f;

// A digit with one zero pixel above and to the left and two below and to the right: any coordinate
// clamped to [-1, 28] has its four bilinear neighbours inside.
constexpr int kPadded = kSide + 3;

struct Affine {  // source = matrix * (target - centre - move) + centre
  float yy, yx, xy, xx, move_y, move_x;
};

Affine draw(const InputParams& p, Stream stream, Purpose purpose, int64_t sample) {
  const Bits4 first = philox(stream, purpose, 2 * static_cast<uint64_t>(sample));
  const Bits4 second = philox(stream, purpose, 2 * static_cast<uint64_t>(sample) + 1);
  const double angle = uniform(first.w[0], p.rotate);
  const double scale_y = 1.0 + uniform(first.w[1], p.scale);
  const double scale_x = 1.0 + uniform(first.w[2], p.scale);
  const double shear = uniform(first.w[3], p.shear);
  const double cos = __builtin_cos(angle), sin = __builtin_sin(angle);
  return {static_cast<float>(cos / scale_y),
          static_cast<float>(-sin / scale_y),
          static_cast<float>((sin - shear * cos) / scale_x),
          static_cast<float>((cos + shear * sin) / scale_x),
          static_cast<float>(uniform(second.w[0], p.translate)),
          static_cast<float>(uniform(second.w[1], p.translate))};
}

MNIST100_INLINE float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

// Source coordinate plus one: never negative, so that truncation is floor. What overflowed to NaN on
// the way lies outside the digit as well.
MNIST100_INLINE float source_place(float x) { return (x > -1 ? x < kSide ? x : kSide : -1) + 1; }

// Raw digit -> rows of kSide floats, kWidth apart.
void warp(const Affine& a, const uint8_t* digit, float* out) {
  float padded[kPadded * kPadded] = {};
  for (int y = 0; y < kSide; ++y)
    for (int x = 0; x < kSide; ++x) padded[(y + 1) * kPadded + x + 1] = digit[y * kSide + x];
  for (int y = 0; y < kSide; ++y) {
    const float v = static_cast<float>(y) - kCentre - a.move_y;
    for (int x = 0; x < kSide; ++x) {
      const float u = static_cast<float>(x) - kCentre - a.move_x;
      const float sy = source_place(a.yy * v + a.yx * u + kCentre);
      const float sx = source_place(a.xy * v + a.xx * u + kCentre);
      const int iy = static_cast<int>(sy), ix = static_cast<int>(sx);
      const float fy = sy - static_cast<float>(iy), fx = sx - static_cast<float>(ix);
      const float* at = padded + iy * kPadded + ix;
      const float top = at[0] + fx * (at[1] - at[0]);
      const float bottom = at[kPadded] + fx * (at[kPadded + 1] - at[kPadded]);
      out[y * kWidth + x] = top + fy * (bottom - top);
    }
  }
}

void copy(const uint8_t* digit, float* out) {
  for (int y = 0; y < kSide; ++y)
    for (int x = 0; x < kSide; ++x) out[y * kWidth + x] = digit[y * kSide + x];
}

struct Jitter {
  int64_t shift;
  float gain, offset;
};

Jitter draw_jitter(const InputParams& p, Stream stream, int64_t sample) {
  const Bits4 bits = philox(stream, kJitter, 2 * static_cast<uint64_t>(sample));
  const Bits4 more = philox(stream, kJitter, 2 * static_cast<uint64_t>(sample) + 1);
  // Multiply-high maps a word onto 0..2*shift with a bias below 2^-30.
  const int64_t shift =
      static_cast<int64_t>(uint64_t{bits.w[0]} * static_cast<uint64_t>(2 * p.shift + 1) >> 32) - p.shift;
  return {shift, static_cast<float>(1.0 + p.contrast * normal(bits.w[1], bits.w[2])),
          static_cast<float>(p.brightness * normal(more.w[0], more.w[1]))};
}

// Moves sideways, scales, offsets and clips one standardised sample.
void finish(const Jitter& j, float clip, const float* sample, float* y) {
  const int64_t first = min_of(kWidth, max_of(0, j.shift)),
                last = max_of(first, min_of(kWidth, kWidth + j.shift));
  for (int row = 0; row < kSide; ++row, sample += kWidth, y += kWidth) {
    for (int64_t x = 0; x < first; ++x) y[x] = j.offset;
    for (int64_t x = first; x < last; ++x) y[x] = sample[x - j.shift] * j.gain + j.offset;
    for (int64_t x = last; x < kWidth; ++x) y[x] = j.offset;
    if (clip > 0)
      for (int64_t x = 0; x < kWidth; ++x) y[x] = clamp(y[x], -clip, clip);
  }
}

}  // namespace

void input_batch(int64_t n, const InputParams& p, Stream stream, const uint8_t* digits, const int32_t* pairs,
                 const int64_t* samples, const float* mean, const float* inv_std, float* y, int threads) {
  const bool warped = p.rotate != 0 || p.scale != 0 || p.shear != 0 || p.translate != 0;
  const bool jittered = p.shift != 0 || p.contrast != 0 || p.brightness != 0;
  parallel_ranges(n, 8, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t sample = samples[i];
      float pair[kSide * kWidth];
      for (int half = 0; half < 2; ++half) {
        const uint8_t* digit = digits + int64_t{pairs[2 * sample + half]} * kSide * kSide;
        const Purpose purpose = half == 0 ? kAffineLeft : kAffineRight;
        if (warped)
          warp(draw(p, stream, purpose, sample), digit, pair + half * kSide);
        else
          copy(digit, pair + half * kSide);
      }
      for (int64_t at = 0; at < kSide * kWidth; ++at)
        pair[at] = (pair[at] * (1.0f / 255.0f) - mean[at]) * inv_std[at];
      const Jitter none = {0, 1, 0};
      finish(jittered ? draw_jitter(p, stream, sample) : none, static_cast<float>(p.clip), pair,
             y + i * kSide * kWidth);
    }
  });
}

}  // namespace mnist100::MNIST100_ISA
