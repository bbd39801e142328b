// A 3x3 convolution of one channel on tensor cores: rows of the product are pixels of a band of an image, k
// runs over a kernel of 4x4 taps, of which the last of each row and the last row are none, so that two taps
// of a row lie in one word.
#pragma once

#include "band_product.cuh"
#include "overlapping.cuh"

namespace mnist100::cuda {

constexpr int kSingleColumns = 16;      // of a block
constexpr int kMostSingleLines = 4;     // of windows, so that weights are used twice
constexpr int kMostSingleWords = 4096;  // of a band

template <class Format>
class SingleTaps {
 public:
  static constexpr int kSteps = 16 / (kWordsOfMma * Format::kOfWord);

  // For lane (g,t), whose columns are column0 + 2 g and the next.
  __device__ SingleTaps(int width, int column0, int n, const float* w) {
    const int g = static_cast<int>(threadIdx.x) % kWarp / 4, t = static_cast<int>(threadIdx.x) % 4;
    MNIST100_UNROLL
    for (int step = 0; step < kSteps; ++step) MNIST100_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int first = (step * kWordsOfMma + t + 4 * i) * Format::kOfWord, ky = first / 4, kx = first % 4;
      const bool is_none = ky == 3 || kx == 3;
      behind_[step][i] = is_none ? 0 : ky * width + kx;
      mask_[step][i] = is_none ? 0 : kx + Format::kOfWord > 3 ? 0xffffu : 0xffffffffu;  // the first is low
      MNIST100_UNROLL
      for (int c = 0; c < 2; ++c) {
        const int column = column0 + 2 * g + c;
        float of_word[Format::kOfWord] = {};
        MNIST100_UNROLL
        for (int e = 0; e < Format::kOfWord; ++e)
          if (column < n && ky < 3 && kx + e < 3) of_word[e] = w[column * 9 + ky * 3 + kx + e];
        right_[step][c][i] = Format::word(of_word);
      }
    }
  }

  // sums[r][tile of columns]: of the rows whose first taps are the words at[r].
  __device__ void multiply(const int (&at)[4], const uint32_t* words, float (&sums)[2][2][4]) const {
    MNIST100_UNROLL
    for (int step = 0; step < kSteps; ++step) MNIST100_UNROLL
    for (int r = 0; r < 2; ++r) {
      uint32_t left[4];
      MNIST100_UNROLL
      for (int i = 0; i < 4; ++i)
        left[i] = words[at[2 * r + i % 2] + behind_[step][i / 2]] & mask_[step][i / 2];
      MNIST100_UNROLL
      for (int c = 0; c < 2; ++c) mma<Format>(left, right_[step][c], sums[r][c]);
    }
  }

 private:
  int behind_[kSteps][2];
  uint32_t mask_[kSteps][2], right_[kSteps][2][2];
};

// Block (band, columns).
template <class Format, class Result>
__global__ void __launch_bounds__(kBlock)
    single_product_kernel(Bands bands, int n, int height, int width, const float* x, WindowBand rows,
                          const float* w, Result result) {
  await_previous();
  alignas(16) __shared__ uint32_t words[kMostSingleWords];
  const int column0 = static_cast<int>(blockIdx.y) * kSingleColumns;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, g = static_cast<int>(threadIdx.x) % kWarp / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
  const Bands::Band band = bands.band(static_cast<int>(blockIdx.x));
  const SingleTaps<Format> taps(width, column0, n, w);
  const int pixels = (2 * band.lines + 2) * width;
  load_overlapping<Format>(x + (band.image * height + 2 * band.first) * width, pixels, pixels + 1, words);
  __syncthreads();
  for (int warp_row = warp * kWarpRows; warp_row < rows.rows(band.lines); warp_row += kBlock) {
    const int count = rows.count(band.lines, warp_row, g), j = column0 + 4 * t;
    int at[4];  // rows that are none are the first
    MNIST100_UNROLL
    for (int r = 0; r < 4; ++r) at[r] = 1 + (count > 0 ? rows.at(warp_row, g, r) : 0);
    float sums[2][2][4] = {};
    taps.multiply(at, words, sums);
    if (count == 0 || j >= n) continue;
    Sums four;
    MNIST100_UNROLL
    for (int c = 0; c < 4; ++c) MNIST100_UNROLL
    for (int r = 0; r < 4; ++r) four[c][r] = sums[r / 2][c % 2][r % 2 * 2 + c / 2];
    result(rows.row(band.image * bands.lines_of_image + band.first, warp_row, g), 4, j, n - j < 4 ? n - j : 4,
           four);
  }
}

// The windows of images of sizes `s`, which have one channel, if there is such a kernel; else false, and
// nothing is done.
template <class Result>
bool single_product(const PaddedSizes& s, int images, int n, const float* x, const WindowBand& rows,
                    const float* w, const Result& result, const Queue& queue) {
  const int fit = (kMostSingleWords - 1) / s.width() / 2 - 1;
  if (queue.precision == Precision::kFp32 || s.bh != 1 || s.bw != 1 || fit < 1) return false;
  if (rows.rows(rows.lines()) == 0) return true;
  const Bands bands(rows.lines(), fit < kMostSingleLines ? fit : kMostSingleLines);
  const dim3 grid(static_cast<unsigned>(images) * static_cast<unsigned>(bands.bands),
                  static_cast<unsigned>(ceil_div(n, kSingleColumns)));
  launch(queue.precision == Precision::kBf16 ? single_product_kernel<Bf16, Result>
                                             : single_product_kernel<Tf32, Result>,
         grid, dim3(kBlock), queue.stream, bands, n, s.height(), s.width(), x, rows, w, result);
  return true;
}

}  // namespace mnist100::cuda
