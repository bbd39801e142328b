// The gradient of a 3x3 convolution's weights on tensor cores: rows of the product are channels of x, columns
// channels of the gradient at the result, and k runs over the pixels of bands (band.cuh). For the few
// channels of a small network; `weight_gradient` is for all others.
//
// Both images have a border of one pixel, and that of the gradient is zero. So k can run through whole rows,
// borders and all, and a tap is x some pixels further on.
#pragma once

#include "pixels.cuh"

namespace mnist100::cuda {

constexpr int kShares = 2;                             // warps that share the pixels of a band
constexpr int kGradientThreads = 3 * kShares * kWarp;  // and the kernel's rows

template <class Format, int kChannels_, int kColumns_>
struct GradientShape {
  static constexpr int kChannels = kChannels_, kColumns = kColumns_;
  static constexpr int kPixels = kWordsOfMma * Format::kOfWord;  // of an mma
  // Eight pixels of eight bfloat16, four words each, or four of eight TF32, are 32 banks: 12, 20, 24 and 40
  // words from one to the next are odd multiples of four or of eight.
  static constexpr int kStrideX = (kChannels + 8) / Format::kOfWord,
                       kStrideD = (kColumns + 8) / Format::kOfWord;
  static constexpr int kTilesDown = kChannels / 16, kTilesAcross = kColumns / 8;
  static constexpr int kSums = 3 * kTilesDown * kTilesAcross * 4, kOnes = kTilesAcross * 4;
  static_assert(3 * (kSums + kOnes) * kWarp <= kSharedWords);

  // A pixel before the band and some behind it, so that all taps of the last mma lie in it.
  __host__ __device__ static int words_of_x(int lines, int width) {
    return ((lines + 2) * width + kPixels + 2) * kStrideX;
  }
  __host__ __device__ static int words_of_d(int lines, int width) {
    return (lines * width + kPixels) * kStrideD;
  }
  static int most_lines(int width) {
    int lines = 0;
    while (words_of_x(lines + 1, width) + words_of_d(lines + 1, width) <= kSharedWords) ++lines;
    return lines;
  }
};

// Adds the sums of the other shares of a band's pixels to those of the first, in their order.
template <int kSize>
__device__ void add_shares(int ky, int share, float* shared, float (&sums)[kSize]) {
  float* const own = shared + ky * kSize * kWarp + static_cast<int>(threadIdx.x) % kWarp;
  for (int from = kShares - 1; from > 0; --from) {
    __syncthreads();
    if (share == from) MNIST100_UNROLL
    for (int i = 0; i < kSize; ++i) own[i * kWarp] = sums[i];
    __syncthreads();
    if (share == from - 1) MNIST100_UNROLL
    for (int i = 0; i < kSize; ++i) sums[i] += own[i * kWarp];
  }
}

// Block (part of the bands). The row behind those of the taps is the bias's, if `has_bias`.
template <class Format, class Shape, class Pixels>
__global__ void __launch_bounds__(kGradientThreads, 2)
    band_gradient_kernel(Bands bands, int count, int width, const float* x, Pixels gradients, bool has_bias,
                         PartialSums partial) {
  await_previous();
  constexpr int kDown = Shape::kTilesDown, kAcross = Shape::kTilesAcross, kPixels = Shape::kPixels;
  constexpr int kStrideX = Shape::kStrideX, kStrideD = Shape::kStrideD;
  alignas(16) __shared__ uint32_t shared[kSharedWords];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, ky = warp % 3, share = warp / 3;
  const int g = static_cast<int>(threadIdx.x) % kWarp / 4, t = static_cast<int>(threadIdx.x) % 4;
  uint32_t one[4];
  MNIST100_UNROLL
  for (uint32_t& word : one) {
    float of_word[Format::kOfWord];
    MNIST100_UNROLL
    for (float& e : of_word) e = 1.0f;
    word = Format::word(of_word);
  }
  float sums[Shape::kSums + Shape::kOnes] = {};  // [kx][tile of channels][tile of columns][4], then of ones
  const auto tile = [&](int kx, int m, int c) -> float (&)[4] {
    return *reinterpret_cast<float (*)[4]>(sums + 4 * ((kx * kDown + m) * kAcross + c));
  };
  for (int unit = static_cast<int>(blockIdx.x); unit < count; unit += static_cast<int>(gridDim.x)) {
    const Bands::Band band = bands.band(unit);
    const int line = band.image * (bands.lines_of_image + 2) + band.first;
    uint32_t* const xs = shared;
    uint32_t* const ds = shared + Shape::words_of_x(band.lines, width);
    const int pixels_of_x = (band.lines + 2) * width, pixels = band.lines * width;
    __syncthreads();
    gradients.template load<Format, Shape::kColumns, kStrideD>(
        band.image, band.first + 1, band.lines, width, kPixels, ds, [&] {
          clear_words(xs, kStrideX);
          clear_words(xs + (pixels_of_x + 1) * kStrideX, (kPixels + 1) * kStrideX);
          load_pixels<Format, Shape::kChannels, kStrideX, 6>(x + line * width * Shape::kChannels, pixels_of_x,
                                                             xs + kStrideX, [] {});
        });
    __syncthreads();
    for (int pixel = share * kPixels; pixel < pixels; pixel += kShares * kPixels) {
      uint32_t right[kAcross][2];
      MNIST100_UNROLL
      for (int q = 0; q < kAcross / 2; ++q) {
        uint32_t of[4];
        load_transposed<Format, kStrideD>(ds + pixel * kStrideD + 16 * q / Format::kOfWord, of);
        MNIST100_UNROLL
        for (int i = 0; i < 4; ++i) right[2 * q + i % 2][i / 2] = of[i];
      }
      MNIST100_UNROLL
      for (int kx = 0; kx < 3; ++kx) MNIST100_UNROLL
      for (int m = 0; m < kDown; ++m) {
        uint32_t left[4];
        load_transposed<Format, kStrideX>(
            xs + (pixel + ky * width + kx) * kStrideX + 16 * m / Format::kOfWord, left);
        MNIST100_UNROLL
        for (int c = 0; c < kAcross; ++c) mma<Format>(left, right[c], tile(kx, m, c));
      }
      if (has_bias && ky == 0) MNIST100_UNROLL
      for (int c = 0; c < kAcross; ++c) mma<Format>(one, right[c], tile(3, 0, c));
    }
  }
  add_shares(ky, share, reinterpret_cast<float*>(shared), sums);
  if (share > 0) return;
  MNIST100_UNROLL
  for (int c = 0; c < kAcross; ++c) MNIST100_UNROLL
  for (int side = 0; side < 2; ++side) {
    const int column = 8 * c + 2 * t + side;
    float* const to = partial.at + (static_cast<int64_t>(blockIdx.x) * partial.n + column) * partial.m4;
    MNIST100_UNROLL
    for (int kx = 0; kx < 3; ++kx) MNIST100_UNROLL
    for (int m = 0; m < kDown; ++m) MNIST100_UNROLL
    for (int row = 0; row < 2; ++row)
      to[(3 * ky + kx) * Shape::kChannels + 16 * m + 8 * row + g] = tile(kx, m, c)[2 * row + side];
    if (!has_bias || ky > 0 || g > 0) continue;
    const float row[4] = {tile(3, 0, c)[side], 0.0f, 0.0f, 0.0f};
    store_quad(to + 9 * Shape::kChannels, row);
  }
}

template <class Format, int kChannels, int kColumns, class Pixels>
bool band_gradient_of(const ConvSameShape& s, const Pixels& gradients, const float* x, float* dw, float* db,
                      cudaStream_t stream) {
  using Shape = GradientShape<Format, kChannels, kColumns>;
  const PaddedSizes sizes(s.x());
  const int most = Shape::most_lines(sizes.width());
  if (most == 0 || s.n * s.h * s.w == 0) return false;
  const Bands bands(sizes.h, most);
  const int count = static_cast<int>(s.n) * bands.bands,
            parts = count < kWantedBlocks ? count : kWantedBlocks;
  const int m = 9 * kChannels + (db ? 1 : 0), quads = ceil_div(m, 4);
  Buffer<float> sums(int64_t{parts} * kColumns * quads * 4, stream);
  const PartialSums partial{sums.get(), quads * 4, kColumns};
  launch(band_gradient_kernel<Format, Shape, Pixels>, dim3(static_cast<unsigned>(parts)),
         dim3(kGradientThreads), stream, bands, count, sizes.width(), x, gradients, db != nullptr, partial);
  add_parts(m, parts, partial, TapWeightsResult{Taps(sizes, 3, 3), dw, db}, stream);
  return true;
}

// The gradients of weights and bias (db null: none) if there is such a kernel; else false, and nothing is
// done. `gradients` are Pixels.
template <class Pixels>
bool band_gradient(const ConvSameShape& s, const Pixels& gradients, const float* x, float* dw, float* db,
                   const Queue& queue) {
  if (queue.precision == Precision::kFp32 || s.kh != 3 || s.kw != 3 || !is_aligned(x)) return false;
  const auto of = [&]<class Format>() {
    const auto run = [&]<int kChannels, int kColumns>() {
      return band_gradient_of<Format, kChannels, kColumns>(s, gradients, x, dw, db, queue.stream);
    };
    if (s.c == 16)
      return s.oc == 16   ? run.template operator()<16, 16>()
             : s.oc == 32 ? run.template operator()<16, 32>()
                          : false;
    if (s.c == 32)
      return s.oc == 16   ? run.template operator()<32, 16>()
             : s.oc == 32 ? run.template operator()<32, 32>()
                          : false;
    return false;
  };
  return queue.precision == Precision::kBf16 ? of.template operator()<Bf16>()
                                             : of.template operator()<Tf32>();
}

}  // namespace mnist100::cuda
