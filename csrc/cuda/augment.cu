// The input kernel: two digits -> one augmented, standardised 28x56 sample. Every draw is made of the same
// bits, in double, as on the CPU, and then used in single precision in the same order of operations.
#include "ops.cuh"
#include "philox.h"

namespace mnist100::cuda {
namespace {

constexpr int kDigit = 28;
constexpr int kWide = 2 * kDigit;
constexpr float kCentre = 13.5f;
constexpr int kInputThreads = 512;
constexpr int kNodes = 7;     // of the elastic field, each way
constexpr int kCellSide = 7;  // pixels between two nodes
constexpr int kDraws = 2 * kNodes * kNodes, kDrawBlocks = (kDraws + 3) / 4;

struct Affine {  // source = matrix * (target - centre - move) + centre
  float yy, yx, xy, xx, move_y, move_x;
};

struct Jitter {
  int shift;
  float gain, offset;
};

__device__ Affine draw_affine(const InputParams& p, Stream random, Purpose purpose, int64_t sample) {
  const Bits4 first = philox(random, purpose, 2 * static_cast<uint64_t>(sample));
  const Bits4 second = philox(random, purpose, 2 * static_cast<uint64_t>(sample) + 1);
  const double angle = uniform(first.w[0], p.rotate);
  const double scale_y = 1.0 + uniform(first.w[1], p.scale), scale_x = 1.0 + uniform(first.w[2], p.scale);
  const double shear = uniform(first.w[3], p.shear);
  const double cosine = cos(angle), sine = sin(angle);
  return {static_cast<float>(cosine / scale_y),
          static_cast<float>(-sine / scale_y),
          static_cast<float>((sine - shear * cosine) / scale_x),
          static_cast<float>((cosine + shear * sine) / scale_x),
          static_cast<float>(uniform(second.w[0], p.translate)),
          static_cast<float>(uniform(second.w[1], p.translate))};
}

__device__ Jitter draw_jitter(const InputParams& p, Stream random, int64_t sample) {
  const Bits4 bits = philox(random, kJitter, 2 * static_cast<uint64_t>(sample));
  const Bits4 more = philox(random, kJitter, 2 * static_cast<uint64_t>(sample) + 1);
  const uint64_t places = static_cast<uint64_t>(2 * p.shift + 1);
  return {static_cast<int>(uint64_t{bits.w[0]} * places >> 32) - static_cast<int>(p.shift),
          static_cast<float>(1.0 + p.contrast * normal(bits.w[1], bits.w[2])),
          static_cast<float>(p.brightness * normal(more.w[0], more.w[1]))};
}

// The part of the cubic B-spline's node `cell + node` at the pixel `within` its cell.
__device__ float spline(int node, int within) {
  const float t = (static_cast<float>(within) + 0.5f) / kCellSide, s = 1 - t;
  if (node == 0) return s * s * s / 6;
  if (node == 1) return (4 - 3 * t * t * (1 + s)) / 6;
  if (node == 2) return (4 - 3 * s * s * (1 + t)) / 6;
  return t * t * t / 6;
}

__device__ float displacement(const float* field, int y, int x) {
  const int cell_y = y / kCellSide, cell_x = x / kCellSide;
  float sum = 0;
  for (int j = 0; j < 4; ++j) {
    float column = 0;
    for (int i = 0; i < 4; ++i)
      column += spline(i, y % kCellSide) * field[(cell_y + i) * kNodes + cell_x + j];
    sum += column * spline(j, x % kCellSide);
  }
  return sum;
}

__device__ float pixel(const uint8_t* digit, int y, int x) {
  return y < 0 || y >= kDigit || x < 0 || x >= kDigit ? 0.0f : static_cast<float>(digit[y * kDigit + x]);
}

// Clamped to [-1, 28] and counted from -1, so that truncation is floor; a NaN lies outside the digit too.
__device__ float clamped_place(float x) { return (x > -1.0f ? (x < kDigit ? x : kDigit) : -1.0f) + 1.0f; }

__device__ float warped(const Affine& a, const float* field, const uint8_t* digit, int y, int x) {
  const float v = static_cast<float>(y) - kCentre - a.move_y,
              u = static_cast<float>(x) - (kCentre + a.move_x);
  float at_y = a.yy * v + kCentre + a.yx * u, at_x = a.xy * v + kCentre + a.xx * u;
  if (field) {
    at_y += displacement(field, y, x);
    at_x += displacement(field + kNodes * kNodes, y, x);
  }
  const float sy = clamped_place(at_y), sx = clamped_place(at_x);
  const int iy = static_cast<int>(sy), ix = static_cast<int>(sx);
  const float fy = sy - static_cast<float>(iy), fx = sx - static_cast<float>(ix);
  const float upper_left = pixel(digit, iy - 1, ix - 1), upper_right = pixel(digit, iy - 1, ix);
  const float lower_left = pixel(digit, iy, ix - 1), lower_right = pixel(digit, iy, ix);
  const float upper = upper_left + fx * (upper_right - upper_left);
  const float lower = lower_left + fx * (lower_right - lower_left);
  return upper + fy * (lower - upper);
}

__device__ int64_t row_of(const BatchRows& rows, int i) {
  if (rows.samples) return rows.samples[i];
  const int64_t place = (rows.first_at ? *rows.first_at : 0) + rows.first + i;
  return rows.order ? rows.order[place] : place;
}

// A block a sample.
__global__ void __launch_bounds__(kInputThreads)
    input_kernel(InputParams p, Draws draws, const uint8_t* digits, const int32_t* pairs, BatchRows rows,
                 const float* mean, const float* inv_std, float* y, ImagePlaces places) {
  await_previous();
  const Stream random = draws.now();
  __shared__ Affine affine[2];
  __shared__ Jitter jitter;
  __shared__ float fields[2][4 * kDrawBlocks];
  alignas(4) __shared__ uint8_t images[2][kDigit * kDigit];
  const int self = static_cast<int>(threadIdx.x);
  const int64_t sample = row_of(rows, static_cast<int>(blockIdx.x));
  if (self == 0 && rows.labels)
    rows.labels[blockIdx.x] =
        10 * rows.digit_labels[pairs[2 * sample]] + rows.digit_labels[pairs[2 * sample + 1]];
  constexpr int kWords = kDigit * kDigit / 4;  // of a digit, which begin where four bytes want them
  for (int at = self; at < 2 * kWords; at += kInputThreads) {
    const uint8_t* const digit = digits + static_cast<int64_t>(pairs[2 * sample + at / kWords]) * 4 * kWords;
    reinterpret_cast<uint32_t*>(images[at / kWords])[at % kWords] =
        reinterpret_cast<const uint32_t*>(digit)[at % kWords];
  }
  const bool moved = p.rotate != 0 || p.scale != 0 || p.shear != 0 || p.translate != 0 || p.elastic != 0;
  const bool jittered = p.shift != 0 || p.contrast != 0 || p.brightness != 0;
  if (moved && self < 2)
    affine[self] = draw_affine(p, random, self == 0 ? kAffineLeft : kAffineRight, sample);
  if (self == 2) jitter = jittered ? draw_jitter(p, random, sample) : Jitter{0, 1.0f, 0.0f};
  if (p.elastic != 0 && self >= kWarp && self < kWarp + 2 * kDrawBlocks) {
    const int half = (self - kWarp) / kDrawBlocks, block = (self - kWarp) % kDrawBlocks;
    const Bits4 bits = philox(random, half == 0 ? kElasticLeft : kElasticRight,
                              static_cast<uint64_t>(kDrawBlocks * sample + block));
    for (int j = 0; j < 4; ++j)
      fields[half][4 * block + j] = static_cast<float>(uniform(bits.w[j], p.elastic));
  }
  __syncthreads();
  const float limit = p.clip > 0 ? static_cast<float>(p.clip) : __builtin_inff();
  for (int at = self; at < kDigit * kWide; at += kInputThreads) {
    const int row = at / kWide, from = at % kWide - jitter.shift;
    float value = jitter.offset;
    if (from >= 0 && from < kWide) {
      const int half = from / kDigit, column = from % kDigit, place = row * kWide + from;
      const uint8_t* const digit = images[half];
      const float raw =
          moved ? warped(affine[half], p.elastic != 0 ? fields[half] : nullptr, digit, row, column)
                : pixel(digit, row, column);
      value = (raw * (1.0f / 255.0f) - mean[place]) * inv_std[place] * jitter.gain + jitter.offset;
    }
    y[places.first + static_cast<int>(blockIdx.x) * places.sample + row * places.row + at % kWide] =
        value < -limit  ? -limit
        : value > limit ? limit
                        : value;
  }
}

}  // namespace

void input_batch(int64_t n, const InputParams& p, Draws random, const uint8_t* digits, const int32_t* pairs,
                 const BatchRows& rows, const float* mean, const float* inv_std, float* y,
                 const ImagePlaces& places, cudaStream_t stream) {
  launch(input_kernel, dim3(static_cast<unsigned>(n)), dim3(kInputThreads), stream, p, random, digits, pairs,
         rows, mean, inv_std, y, places);
}

}  // namespace mnist100::cuda
