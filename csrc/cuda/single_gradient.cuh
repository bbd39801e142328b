// The gradient of the weights of a 3x3 conv block with one input channel, on tensor cores: rows of the
// product are the nine taps and the bias, columns output channels, and k runs over the pixels of bands
// (band.cuh). The gradient before the pool is spread out in shared memory alone.
#pragma once

#include "overlapping.cuh"
#include "pixels.cuh"

namespace mnist100::cuda {

template <class Format>
struct SingleShape {
  static constexpr int kColumns = 16;
  static constexpr int kPixels = kWordsOfMma * Format::kOfWord;      // of an mma
  static constexpr int kStrideD = (kColumns + 8) / Format::kOfWord;  // as in GradientShape
  static constexpr int kWarps = kBlock / kWarp, kSums = kColumns / 8 * 4;

  // A line is a pair of rows, as a row of windows is. Taps of the last mma lie in the band.
  __host__ __device__ static int words_of_x(int lines, int width) {
    return (2 * lines + 2) * width + kPixels + 2;
  }
  __host__ __device__ static int words_of_d(int lines, int width) {
    return (2 * lines * width + kPixels) * kStrideD;
  }
  static int most_lines(int width) {
    int lines = 0;
    while (words_of_x(lines + 1, width) + 3 + words_of_d(lines + 1, width) <= kSharedWords) ++lines;
    return lines;
  }
};

constexpr int kMostSingleParts = 512;  // about four blocks for each multiprocessor of the largest GPUs

// Block (part of the bands, columns). The row behind the taps' is the bias's.
template <class Format>
__global__ void __launch_bounds__(kBlock)
    single_gradient_kernel(Bands bands, int count, int height, int width, const float* x,
                           PooledPixels gradients, PartialSums partial) {
  await_previous();
  using Shape = SingleShape<Format>;
  constexpr int kPixels = Shape::kPixels, kStride = Shape::kStrideD, kAcross = Shape::kColumns / 8;
  alignas(16) __shared__ uint32_t shared[kSharedWords];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int g = lane / 4, t = lane % 4, column0 = static_cast<int>(blockIdx.y) * Shape::kColumns;
  // Row g of a fragment is tap g. Row 8 is the last tap, row 9 the bias's; the others are none.
  const int behind = g / 3 * width + g % 3 + Format::kOfWord * t;
  const int last_behind = 2 * width + 2 + Format::kOfWord * t;
  float ones[Format::kOfWord];
  MNIST100_UNROLL
  for (float& e : ones) e = 1.0f;
  const uint32_t one = g == 1 ? Format::word(ones) : 0;
  float sums[Shape::kSums] = {};  // [tile of columns][4]
  const PooledPixels mine = gradients.from_channel(column0);
  for (int unit = static_cast<int>(blockIdx.x); unit < count; unit += static_cast<int>(gridDim.x)) {
    const Bands::Band band = bands.band(unit);
    uint32_t* const xs = shared;
    uint32_t* const ds = shared + (Shape::words_of_x(band.lines, width) + 3) / 4 * 4;
    const int pixels_of_x = (2 * band.lines + 2) * width, pixels = 2 * band.lines * width;
    const float* const from = x + (band.image * height + 2 * band.first) * width;
    __syncthreads();
    mine.template load<Format, Shape::kColumns, kStride>(
        band.image, 2 * band.first + 1, 2 * band.lines, width, kPixels, ds,
        [&] { load_overlapping<Format>(from, pixels_of_x, Shape::words_of_x(band.lines, width), xs); });
    __syncthreads();
    for (int pixel = warp * kPixels; pixel < pixels; pixel += Shape::kWarps * kPixels) {
      const uint32_t* const row = xs + pixel + behind;
      const uint32_t* const last = xs + pixel + last_behind;
      constexpr int kHalf = 4 * Format::kOfWord;
      const uint32_t left[4] = {row[0], g == 0 ? last[0] : one, row[kHalf], g == 0 ? last[kHalf] : one};
      uint32_t of[4];
      load_transposed<Format, kStride>(ds + pixel * kStride, of);
      MNIST100_UNROLL
      for (int c = 0; c < kAcross; ++c) {
        const uint32_t right[2] = {of[c], of[c + 2]};
        mma<Format>(left, right, *reinterpret_cast<float (*)[4]>(sums + 4 * c));
      }
    }
  }
  __syncthreads();
  add_groups<Shape::kWarps>(warp, lane, kWarp, reinterpret_cast<float*>(shared), sums);
  if (warp > 0) return;
  MNIST100_UNROLL
  for (int c = 0; c < kAcross; ++c) MNIST100_UNROLL
  for (int side = 0; side < 2; ++side) {
    const int column = column0 + 8 * c + 2 * t + side;
    float* const to = partial.at + (static_cast<int64_t>(blockIdx.x) * partial.n + column) * partial.m4;
    to[g] = sums[4 * c + side];
    if (g < 4) to[8 + g] = sums[4 * c + 2 + side];
  }
}

template <class Format>
bool single_gradient_in(const ConvBlockShape& s, const PooledPixels& gradients, const float* x, float* dw,
                        float* db, cudaStream_t stream) {
  const PaddedSizes sizes(s.x());
  const int most = SingleShape<Format>::most_lines(sizes.width());
  if (most == 0 || s.n * gradients.windows() == 0) return false;
  const Bands bands(gradients.lines(), most);
  const int count = static_cast<int>(s.n) * bands.bands,
            parts = count < kMostSingleParts ? count : kMostSingleParts;
  constexpr int kTaps = 9, kRows = kTaps + 1, kQuads = (kRows + 3) / 4;
  const int oc = static_cast<int>(s.oc);
  Buffer<float> sums(int64_t{parts} * oc * kQuads * 4, stream);
  const PartialSums partial{sums.get(), kQuads * 4, oc};
  launch(single_gradient_kernel<Format>,
         dim3(static_cast<unsigned>(parts), static_cast<unsigned>(oc / SingleShape<Format>::kColumns)),
         dim3(kBlock), stream, bands, count, sizes.height(), sizes.width(), x, gradients, partial);
  add_parts(kRows, parts, partial, TapWeightsResult{Taps(sizes, 3, 3), dw, db}, stream);
  return true;
}

// The gradients of weights and bias if there is such a kernel; else false, and nothing is done. argmax has
// the dead marked.
inline bool single_gradient(const ConvBlockShape& s, const float* dy, const PooledPlaces& places,
                            const float* x, const uint8_t* argmax, float* dw, float* db, const Queue& queue) {
  const bool fits = s.c == 1 && s.kh == 3 && s.kw == 3 && s.oc % 16 == 0 && is_aligned(argmax);
  if (queue.precision == Precision::kFp32 || !fits) return false;
  const PooledPixels gradients(s, places, dy, argmax);
  return queue.precision == Precision::kBf16
             ? single_gradient_in<Bf16>(s, gradients, x, dw, db, queue.stream)
             : single_gradient_in<Tf32>(s, gradients, x, dw, db, queue.stream);
}

}  // namespace mnist100::cuda
