// The input kernel: two digits -> one augmented, standardised 28x56 sample.
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "elastic.h"
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int kSide = 28;
constexpr int kWidth = 2 * kSide;
constexpr float kCentre = 13.5f;

// Any source coordinate is clamped to [-1, 28] and counted from -1, so that its whole part is 0 to 29.
constexpr int kPlaces = kSide + 2;
constexpr int kStride = 32;

// Entry y * kStride + x: the four pixels around a source coordinate with whole parts y and x, a byte each:
// upper left, upper right, lower left, lower right. One load fetches all that bilinear interpolation needs.
struct Quads {
  uint32_t at[kPlaces * kStride];
};

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

void make_quads(const uint8_t* digit, Quads& quads) {
  uint8_t padded[(kPlaces + 1) * kStride + 1] = {};  // pixel (0, 0) at (1, 1), zeros around
  for (int y = 0; y < kSide; ++y) __builtin_memcpy(padded + (y + 1) * kStride + 1, digit + y * kSide, kSide);
  for (int i = 0; i < kPlaces * kStride; ++i)
    quads.at[i] = padded[i] | uint32_t{padded[i + 1]} << 8 | uint32_t{padded[i + kStride]} << 16 |
                  uint32_t{padded[i + kStride + 1]} << 24;
}

MNIST100_INLINE IntVec gather(const uint32_t* table, IntVec at) {
#if defined(MNIST100_VECTOR_BYTES) || !defined(__AVX2__)
  IntVec found;
  for (int i = 0; i < kLanes; ++i) found[i] = static_cast<int32_t>(table[at[i]]);
  return found;
#elif defined(__AVX512F__)
  const __m512i places =
      reinterpret_cast<__m512i>(at);  // all lanes asked for: GCC 12 warns of the plain form
  return reinterpret_cast<IntVec>(_mm512_mask_i32gather_epi32(places, 0xFFFF, places, table, 4));
#else
  return reinterpret_cast<IntVec>(
      _mm256_i32gather_epi32(reinterpret_cast<const int*>(table), reinterpret_cast<__m256i>(at), 4));
#endif
}

MNIST100_INLINE Vec to_float(IntVec v) { return __builtin_convertvector(v, Vec); }

// Counted from -1, so that truncation is floor. What overflowed to NaN on the way lies outside the digit too.
MNIST100_INLINE Vec clamped_place(Vec x) {
  const Vec low = splat(-1.0f), high = splat(kSide);
  const Vec below = x < high ? x : high;
  return (x > low ? below : low) + 1.0f;
}

// Row y of a warped digit: kSide floats, in whole vectors, which may write up to kLanes - 1 more. `bend` is
// added to where the affine map looks, or null.
MNIST100_INLINE void warp_row(const Affine& a, const Quads& quads, int y, const Bend* bend, float* out) {
  const float v = static_cast<float>(y) - kCentre - a.move_y;
  const float row_y = a.yy * v + kCentre, row_x = a.xy * v + kCentre;
#pragma GCC unroll 8
  for (int x = 0; x < kSide; x += kLanes) {
    const Vec u = to_float(ints_from(x, 1)) - (kCentre + a.move_x);
    Vec at_y = row_y + a.yx * u, at_x = row_x + a.xx * u;
    if (bend) {
      at_y += load(bend->y + x);
      at_x += load(bend->x + x);
    }
    const Vec sy = clamped_place(at_y), sx = clamped_place(at_x);
    const IntVec iy = __builtin_convertvector(sy, IntVec), ix = __builtin_convertvector(sx, IntVec);
    const Vec fy = sy - to_float(iy), fx = sx - to_float(ix);
    const IntVec quad = gather(quads.at, iy * kStride + ix);
    const Vec upper_left = to_float(quad & 255), upper_right = to_float(quad >> 8 & 255);
    const Vec lower_left = to_float(quad >> 16 & 255), lower_right = to_float(quad >> 24 & 255);
    const Vec upper = upper_left + fx * (upper_right - upper_left);
    const Vec lower = lower_left + fx * (lower_right - lower_left);
    store(out + x, upper + fy * (lower - upper));
  }
}

// Two digits -> rows of kWidth floats; `fields` are of displacements by `spline`, or null.
void warp_pair(const Affine affine[2], const Field* fields, const Spline& spline,
               const uint8_t* const digits[2], float* out) {
  Quads quads[2];
  for (int half = 0; half < 2; ++half) make_quads(digits[half], quads[half]);
  for (int y = 0; y < kSide; ++y)  // what a row writes beyond its end, the next one overwrites
    for (int half = 0; half < 2; ++half) {
      Bend bend;
      if (fields) bend_row(spline, fields[half], y, bend);
      warp_row(affine[half], quads[half], y, fields ? &bend : nullptr, out + y * kWidth + half * kSide);
    }
}

void copy_pair(const uint8_t* const digits[2], float* out) {
  for (int y = 0; y < kSide; ++y)
    for (int half = 0; half < 2; ++half)
      for (int x = 0; x < kSide; ++x) out[y * kWidth + half * kSide + x] = digits[half][y * kSide + x];
}

void standardise(const float* mean, const float* inv_std, float* pair) {
  for (int i = 0; i < kSide * kWidth; ++i) pair[i] = (pair[i] * (1.0f / 255.0f) - mean[i]) * inv_std[i];
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

MNIST100_INLINE float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

// Moves sideways, scales, offsets and clips one standardised sample.
void finish(const Jitter& j, float clip, const float* sample, float* y) {
  const float limit = clip > 0 ? clip : __builtin_inff();
  const int64_t first = min_of(kWidth, max_of(0, j.shift)),
                last = max_of(first, min_of(kWidth, kWidth + j.shift));
  const float vacated = clamp(j.offset, -limit, limit);
  for (int row = 0; row < kSide; ++row, sample += kWidth, y += kWidth) {
    for (int64_t x = 0; x < first; ++x) y[x] = vacated;
    for (int64_t x = first; x < last; ++x)
      y[x] = clamp(sample[x - j.shift] * j.gain + j.offset, -limit, limit);
    for (int64_t x = last; x < kWidth; ++x) y[x] = vacated;
  }
}

void prefetch(const uint8_t* digit) {
  for (int at = 0; at < kSide * kSide; at += 64) __builtin_prefetch(digit + at);
}

// Everything that the samples of a batch share.
struct Maker {
  InputParams params;
  Stream stream;
  const uint8_t* digits;
  const int32_t* pairs;
  const float *mean, *inv_std;
  Spline spline;

  const uint8_t* digit(int64_t sample, int half) const {
    return digits + int64_t{pairs[2 * sample + half]} * kSide * kSide;
  }

  void make(int64_t sample, float* y) const {
    const InputParams& p = params;
    const uint8_t* const two[2] = {digit(sample, 0), digit(sample, 1)};
    float pair[kSide * kWidth + kLanes];
    if (p.rotate != 0 || p.scale != 0 || p.shear != 0 || p.translate != 0 || p.elastic != 0) {
      const Affine affine[2] = {draw(p, stream, kAffineLeft, sample), draw(p, stream, kAffineRight, sample)};
      Field fields[2];
      if (p.elastic != 0) {
        draw_field(p.elastic, stream, kElasticLeft, sample, fields[0]);
        draw_field(p.elastic, stream, kElasticRight, sample, fields[1]);
      }
      warp_pair(affine, p.elastic != 0 ? fields : nullptr, spline, two, pair);
    } else {
      copy_pair(two, pair);
    }
    standardise(mean, inv_std, pair);
    const bool jittered = p.shift != 0 || p.contrast != 0 || p.brightness != 0;
    const Jitter none = {0, 1, 0};
    finish(jittered ? draw_jitter(p, stream, sample) : none, static_cast<float>(p.clip), pair, y);
  }
};

}  // namespace

void input_batch(int64_t n, const InputParams& p, Stream stream, const uint8_t* digits, const int32_t* pairs,
                 const int64_t* samples, const float* mean, const float* inv_std, float* y, int threads) {
  const Maker maker = {p, stream, digits, pairs, mean, inv_std, make_spline()};
  parallel_ranges(n, 8, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (i + 1 < n)  // the digits lie anywhere in a table much larger than the cache
        for (int half = 0; half < 2; ++half) prefetch(maker.digit(samples[i + 1], half));
      maker.make(samples[i], y + i * kSide * kWidth);
    }
  });
}

}  // namespace mnist100::MNIST100_ISA
