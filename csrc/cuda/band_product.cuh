// A 3x3 convolution on tensor cores, stride 1 and "same" padding: rows of the product are pixels of a band of
// an image (band.cuh), k runs over the nine taps, and fragments of every tap come from the band itself. For
// the few channels of a small network; `multiply` is for all others.
#pragma once

#include "pixels.cuh"

namespace mnist100::cuda {

// Rows of the product by a warp's 32: lane group g has four. Lines are rows of the image, or pairs of rows.

// The pixels of 2x2 windows: a lane group has the four of one.
class WindowBand {
 public:
  static constexpr int kStep = 2;        // pixels from one row of a fragment to the next
  static constexpr int kRowsOfLine = 2;  // of the image
  static constexpr int kRowsApart = 1;   // of a lane group's rows, as results count them
  WindowBand(int ph, int pw, int width) : lines_(ph), width_(width), by_(pw) {}
  __host__ __device__ int lines() const { return lines_; }  // of an image
  __host__ __device__ int rows(int lines) const { return 4 * lines * by_.by(); }
  // Where row r of lane group g lies in the band: its first tap.
  __device__ int at(int warp_row, int g, int r) const {
    const int window = warp_row / 4 + g, line = by_.quotient(window);
    return (2 * line + r / 2) * width_ + 2 * (window - line * by_.by()) + r % 2;
  }
  // The row of all images that a lane group's first is, `line` being the band's first of all images.
  __device__ int row(int line, int warp_row, int g) const { return 4 * (line * by_.by() + warp_row / 4 + g); }
  __device__ int count(int lines, int warp_row, int g) const {
    return warp_row / 4 + g < lines * by_.by() ? 4 : 0;
  }

 private:
  int lines_, width_;
  Divisor by_;
};

// Pixels, row by row: a lane group has every eighth.
class PixelBand {
 public:
  static constexpr int kStep = 1, kRowsOfLine = 1, kRowsApart = 8;
  PixelBand(int h, int w, int width) : lines_(h), width_(width), by_(w) {}
  __host__ __device__ int lines() const { return lines_; }
  __host__ __device__ int rows(int lines) const { return lines * by_.by(); }
  __device__ int at(int warp_row, int g, int r) const {
    const int pixel = warp_row + kRowsApart * r + g, line = by_.quotient(pixel);
    return line * width_ + pixel - line * by_.by();
  }
  __device__ int row(int line, int warp_row, int g) const { return line * by_.by() + warp_row + g; }
  __device__ int count(int lines, int warp_row, int g) const {
    const int left = lines * by_.by() - warp_row - g;
    return left <= 0 ? 0 : left > 3 * kRowsApart ? 4 : (left + kRowsApart - 1) / kRowsApart;
  }

 private:
  int lines_, width_;
  Divisor by_;
};

constexpr int kBandsOfSm = 3;             // blocks of a multiprocessor
constexpr int kMostBandBlocks = 3 * 132;  // of the largest GPUs

template <class Format, int kChannels, int kColumns_, class ToRows>
struct BandShape {
  static constexpr int kColumns = kColumns_;
  static constexpr int kWords = kChannels / Format::kOfWord;  // of a pixel
  // Lane group g reads word t of pixel kStep * g: at kStep * kStride * g + t, where kStep * kStride is an odd
  // multiple of four, which are 32 banks. So are those of the weights.
  static constexpr int kStride = kWords + 4 / ToRows::kStep;
  static constexpr int kDepth = 9 * kWords;
  static constexpr int kStrideB = kDepth + 4;
  static constexpr int kWordsOfB = kColumns * kStrideB;
  static constexpr int kWordsOfBand = kSharedWords - kWordsOfB;
  static_assert(kWords % kWordsOfMma == 0 && kStrideB % 8 == 4);

  // Lines of a band at most, one row of the product for each thread; 0 if not one fits.
  static int most_lines(const ToRows& rows, int width) {
    const int fit = (kWordsOfBand / (width * kStride) - 2) / ToRows::kRowsOfLine;
    const int busy = kBlock / rows.rows(1);
    return fit < 1 ? 0 : busy < 1 ? 1 : fit < busy ? fit : busy;
  }
};

// The weights (oc,c,3,3) of a convolution as B of its product, kChannels being its input channels: k runs
// over (ky, kx, c), columns are output channels. Or of its input gradient: k runs over (ky, kx, o), the
// kernel turned round, kChannels being its output channels and columns input channels.
template <int kChannels_, bool kOfInput>
class BandWeights {
 public:
  static constexpr int kChannels = kChannels_;
  BandWeights(const float* w, int n) : w_(w), by_n_(n) {}
  __device__ int size() const { return 9 * kChannels * by_n_.by(); }
  __device__ float operator()(int i) const { return w_[i]; }
  struct Place {
    int column, k;
  };
  __device__ Place place(int i) const {
    const int tap = i % 9, channels = i / 9;
    if (!kOfInput) return {channels / kChannels, tap * kChannels + channels % kChannels};
    const int o = by_n_.quotient(channels);
    return {channels - o * by_n_.by(), (8 - tap) * kChannels + o};
  }

 private:
  const float* w_;
  Divisor by_n_;  // columns
};

// Element `e` of a word of shared memory.
template <class Format>
__device__ void store_element(uint32_t* word, int e, float x) {
  const float alone[2] = {x, 0.0f};
  if constexpr (Format::kOfWord == 2)
    reinterpret_cast<uint16_t*>(word)[e] = static_cast<uint16_t>(Format::word(alone));  // the first is low
  else
    *word = Format::word({x});
}

// The weights of a block's columns -> shared memory, in the order in which they lie.
template <class Format, class Shape, class Weights>
__device__ void load_weights(int column0, int n, const Weights& weights, uint32_t* to) {
  constexpr int kAtOnce = 9;
  if (n - column0 < Shape::kColumns) {
    clear_words(to, Shape::kWordsOfB);
    __syncthreads();
  }
  for (int first = static_cast<int>(threadIdx.x); first < weights.size(); first += kAtOnce * kBlock) {
    float x[kAtOnce] = {};
    MNIST100_UNROLL
    for (int i = 0; i < kAtOnce; ++i)
      if (first + i * kBlock < weights.size()) x[i] = weights(first + i * kBlock);
    MNIST100_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      if (first + i * kBlock >= weights.size()) break;
      const auto at = weights.place(first + i * kBlock);
      const int j = at.column - column0;
      if (j < 0 || j >= Shape::kColumns) continue;
      store_element<Format>(to + fragment_column(j) * Shape::kStrideB + at.k / Format::kOfWord,
                            at.k % Format::kOfWord, x[i]);
    }
  }
}

// sums[r][tile of columns]: the product of a warp's 32 rows. at[r]: where those of the lane group begin.
template <class Format, class Shape, int kAcross>
__device__ void multiply_taps(const int (&at)[4], int width, const uint32_t* band, const uint32_t* weights,
                              float (&sums)[2][kAcross][4]) {
  const int g = static_cast<int>(threadIdx.x) % kWarp / 4, t = static_cast<int>(threadIdx.x) % 4;
  for (int ky = 0; ky < 3; ++ky) MNIST100_UNROLL
  for (int kx = 0; kx < 3; ++kx) MNIST100_UNROLL
  for (int step = 0; step < Shape::kWords; step += kWordsOfMma) {
    const int behind = (ky * width + kx) * Shape::kStride + step + t;
    const uint32_t* const right_at = weights + g * Shape::kStrideB + (3 * ky + kx) * Shape::kWords + step + t;
    uint32_t left[2][4], right[kAcross][2];
    MNIST100_UNROLL
    for (int r = 0; r < 2; ++r) MNIST100_UNROLL
    for (int i = 0; i < 4; ++i) left[r][i] = band[at[2 * r + i % 2] + behind + i / 2 * 4];
    MNIST100_UNROLL
    for (int c = 0; c < kAcross; ++c) MNIST100_UNROLL
    for (int i = 0; i < 2; ++i) right[c][i] = right_at[8 * c * Shape::kStrideB + i * 4];
    MNIST100_UNROLL
    for (int r = 0; r < 2; ++r) MNIST100_UNROLL
    for (int c = 0; c < kAcross; ++c) mma<Format>(left[r], right[c], sums[r][c]);
  }
}

// Block (part of the bands, columns).
template <class Format, class Shape, class Pixels, class ToRows, class Weights, class Result>
__global__ void __launch_bounds__(kBlock, kBandsOfSm)
    band_product_kernel(Bands bands, int count, int n, int width, Pixels pixels, ToRows rows, Weights w,
                        Result result) {
  await_previous();
  constexpr int kAcross = Shape::kColumns / 8, kStride = Shape::kStride;
  alignas(16) __shared__ uint32_t band_words[Shape::kWordsOfBand];
  alignas(16) __shared__ uint32_t weights[Shape::kWordsOfB];
  const int column0 = static_cast<int>(blockIdx.y) * Shape::kColumns;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, g = static_cast<int>(threadIdx.x) % kWarp / 4;
  const int t = static_cast<int>(threadIdx.x) % 4, blocks = static_cast<int>(gridDim.x);
  load_weights<Format, Shape>(column0, n, w, weights);
  for (int unit = static_cast<int>(blockIdx.x); unit < count; unit += blocks) {
    const Bands::Band band = bands.band(unit);
    if (unit >= blocks) __syncthreads();  // all have read the band before
    pixels.template load<Format, Weights::kChannels, kStride>(band.image, ToRows::kRowsOfLine * band.first,
                                                              ToRows::kRowsOfLine * band.lines + 2, width,
                                                              band_words);
    __syncthreads();
    for (int warp_row = warp * kWarpRows; warp_row < rows.rows(band.lines); warp_row += kBlock) {
      const int mine = rows.count(band.lines, warp_row, g);
      int at[4];  // rows that are none are the first
      MNIST100_UNROLL
      for (int r = 0; r < 4; ++r) at[r] = (r < mine ? rows.at(warp_row, g, r) : 0) * kStride;
      float sums[2][kAcross][4] = {};
      multiply_taps<Format, Shape>(at, width, band_words, weights, sums);
      if (mine == 0) continue;
      const int i = rows.row(band.image * bands.lines_of_image + band.first, warp_row, g);
      MNIST100_UNROLL
      for (int q = 0; q < kAcross / 2; ++q) {
        const int j = column0 + 16 * q + 4 * t;
        Sums four;
        MNIST100_UNROLL
        for (int c = 0; c < 4; ++c) MNIST100_UNROLL
        for (int r = 0; r < 4; ++r) four[c][r] = sums[r / 2][2 * q + c % 2][r % 2 * 2 + c / 2];
        if (j < n) result(i, mine, j, n - j < 4 ? n - j : 4, four);
      }
    }
  }
}

// As many blocks as a GPU has room for at once, or fewer, all with the same number of bands or one less.
inline int band_blocks(int bands) { return ceil_div(bands, ceil_div(bands, kMostBandBlocks)); }

template <class Format, int kColumns, class Pixels, class ToRows, class Weights, class Result>
bool band_product_of(int width, int images, int n, const Pixels& pixels, const ToRows& rows,
                     const Weights& weights, const Result& result, cudaStream_t stream) {
  using Shape = BandShape<Format, Weights::kChannels, kColumns, ToRows>;
  const int most = rows.rows(rows.lines()) == 0 ? 0 : Shape::most_lines(rows, width);
  if (most == 0) return false;
  const Bands bands(rows.lines(), most);
  const int count = images * bands.bands;
  if (count == 0) return true;
  const dim3 grid(static_cast<unsigned>(band_blocks(count)), static_cast<unsigned>(ceil_div(n, kColumns)));
  launch(band_product_kernel<Format, Shape, Pixels, ToRows, Weights, Result>, grid, dim3(kBlock), stream,
         bands, count, n, width, pixels, rows, weights, result);
  return true;
}

template <class Format, class Pixels, class ToRows, class Weights, class Result>
bool band_product_in(int width, int images, int n, const Pixels& pixels, const ToRows& rows,
                     const Weights& weights, const Result& result, cudaStream_t stream) {
  // 32 columns of weights leave room for a band where a pixel has up to 16 words.
  if constexpr (Weights::kChannels / Format::kOfWord <= 16)
    if (n > 16) return band_product_of<Format, 32>(width, images, n, pixels, rows, weights, result, stream);
  return band_product_of<Format, 16>(width, images, n, pixels, rows, weights, result, stream);
}

// The convolution of images of sizes `s`, which `pixels` (pixels.cuh) has, with 3x3 weights `w`, kOfInput as
// of BandWeights, to n channels, if there is such a kernel; else false, and nothing is done.
template <bool kOfInput, class Pixels, class ToRows, class Result>
bool band_product(const PaddedSizes& s, int images, int n, const Pixels& pixels, const ToRows& rows,
                  const float* w, const Result& result, const Queue& queue) {
  if (queue.precision == Precision::kFp32 || s.bh != 1 || s.bw != 1) return false;
  const auto with = [&]<int kChannels>() {
    const BandWeights<kChannels, kOfInput> weights(w, n);
    return queue.precision == Precision::kBf16
               ? band_product_in<Bf16>(s.width(), images, n, pixels, rows, weights, result, queue.stream)
               : band_product_in<Tf32>(s.width(), images, n, pixels, rows, weights, result, queue.stream);
  };
  return s.c == 16 ? with.template operator()<16>() : s.c == 32 ? with.template operator()<32>() : false;
}

}  // namespace mnist100::cuda
