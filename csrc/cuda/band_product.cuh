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

constexpr int kBandThreads = 512;
constexpr int kBandsOfSm = 2;  // blocks of a multiprocessor: 64 registers for each of its 2 * 512 threads

template <class Format, int kChannels_, int kColumns_, class ToRows>
struct BandShape {
  static constexpr int kChannels = kChannels_, kColumns = kColumns_;
  static constexpr int kWords = kChannels / Format::kOfWord;  // of a pixel
  // Eight rows of a fragment, four words each, begin kStep * kStride words apart: an odd multiple of four, so
  // that they are in 32 banks. So are those of the weights.
  static constexpr int kStride = kWords + 4 / ToRows::kStep;
  static constexpr int kDepth = 9 * kWords;
  static constexpr int kStrideB = kDepth + 4;
  static constexpr int kWordsOfB = kColumns * kStrideB;
  static constexpr int kWordsOfBand = kSharedWords - kWordsOfB;
  static_assert(kWords % kWordsOfMma == 0 && kStrideB % 8 == 4);

  // Lines of a band at most, one row of the product for each thread; 0 if not one fits.
  static int most_lines(const ToRows& rows, int width) {
    const int fit = (kWordsOfBand / (width * kStride) - 2) / ToRows::kRowsOfLine;
    const int busy = kBandThreads / rows.rows(1);
    return fit < 1 ? 0 : busy < 1 ? 1 : fit < busy ? fit : busy;
  }
};

// Word `word` of column `column` of the weights, and its place in the order in which neighbouring threads
// read them: what is adjacent in memory, the taps of an input and an output channel, first.
template <class Shape, bool kColumnFirst>
struct WeightWord {
  int column, word;
  __device__ explicit WeightWord(int at) {
    const int tap = at % 9, channels = at / 9;
    column = kColumnFirst ? channels % Shape::kColumns : channels / Shape::kWords;
    word = tap * Shape::kWords + (kColumnFirst ? channels / Shape::kColumns : channels % Shape::kWords);
  }
};

// The weights of a block's columns -> shared memory. `weights` is a functor (column, k) -> element, k being
// (ky, kx, c); Weights::kColumnFirst: columns of one c are nearer in memory than channels of one column.
template <class Format, class Shape, class Weights>
__device__ void load_weights(int column0, int n, const Weights& weights, uint32_t* to) {
  constexpr int kWords = Shape::kColumns * Shape::kDepth, kLoads = (kWords + kBandThreads - 1) / kBandThreads;
  using Word = WeightWord<Shape, Weights::kColumnFirst>;
  float of_word[kLoads][Format::kOfWord] = {};
  MNIST100_UNROLL
  for (int i = 0; i < kLoads; ++i) {
    const int at = i * kBandThreads + static_cast<int>(threadIdx.x);
    const Word word(at);
    if (at < kWords && column0 + word.column < n) MNIST100_UNROLL
    for (int e = 0; e < Format::kOfWord; ++e)
      of_word[i][e] = weights(column0 + word.column, word.word * Format::kOfWord + e);
  }
  MNIST100_UNROLL
  for (int i = 0; i < kLoads; ++i) {
    const int at = i * kBandThreads + static_cast<int>(threadIdx.x);
    const Word word(at);
    if (at < kWords)
      to[fragment_column(word.column) * Shape::kStrideB + word.word] = Format::word(of_word[i]);
  }
}

// Where a warp's 32 rows begin in the band, as a lane needs them: four rows of its group, or, where 16 bytes
// lie as load_fragments wants them, the row that it brings for each of the two fragments.
template <class Shape, class ToRows>
class RowsOfBand {
 public:
  __device__ RowsOfBand(const Bands::Band& band, const ToRows& rows, int warp_row, const uint32_t* words) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, g = kWhole ? lane % 8 : lane / 4;
    const int count = rows.count(band.lines, warp_row, g);  // rows that are none are the first
    MNIST100_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const int r = kWhole ? 2 * i + lane / 8 % 2 : i;
      at_[i] = words + (r < count ? rows.at(warp_row, g, r) : 0) * Shape::kStride +
               (kWhole ? lane / 16 * 4 : lane % 4);
    }
  }

  // Fragment r, `behind` words further on.
  __device__ void load(int r, int behind, uint32_t (&left)[4]) const {
    if constexpr (kWhole) {
      load_fragments(at_[r] + behind, left);
    } else {
      MNIST100_UNROLL
      for (int i = 0; i < 4; ++i) left[i] = at_[2 * r + i % 2][behind + i / 2 * 4];
    }
  }

 private:
  static constexpr bool kWhole = Shape::kStride % 4 == 0;
  static constexpr int kRows = kWhole ? 2 : 4;
  const uint32_t* at_[kRows];
};

// sums[r][tile of columns]: the product of a warp's 32 rows.
template <class Format, class Shape, class Rows, int kAcross>
__device__ void multiply_taps(const Rows& rows, int width, const uint32_t* weights,
                              float (&sums)[2][kAcross][4]) {
  for (int ky = 0; ky < 3; ++ky) MNIST100_UNROLL
  for (int kx = 0; kx < 3; ++kx) MNIST100_UNROLL
  for (int step = 0; step < Shape::kWords; step += kWordsOfMma) {
    uint32_t left[2][4], right[kAcross][2];
    MNIST100_UNROLL
    for (int r = 0; r < 2; ++r) rows.load(r, (ky * width + kx) * Shape::kStride + step, left[r]);
    load_right<Shape::kStrideB>(weights + (3 * ky + kx) * Shape::kWords + step, right);
    MNIST100_UNROLL
    for (int r = 0; r < 2; ++r) MNIST100_UNROLL
    for (int c = 0; c < kAcross; ++c) mma<Format>(left[r], right[c], sums[r][c]);
  }
}

// Block (band, columns).
template <class Format, class Shape, class Pixels, class ToRows, class Weights, class Result>
__global__ void __launch_bounds__(kBandThreads, kBandsOfSm)
    band_product_kernel(Bands bands, int n, int width, Pixels pixels, ToRows rows, Weights w, Result result) {
  constexpr int kAcross = Shape::kColumns / 8, kStride = Shape::kStride;
  alignas(16) __shared__ uint32_t band_words[Shape::kWordsOfBand];
  alignas(16) __shared__ uint32_t weights[Shape::kWordsOfB];
  const int column0 = static_cast<int>(blockIdx.y) * Shape::kColumns;
  // No step has a kernel that writes weights right before this one, which wants 16 channels or 32.
  load_weights<Format, Shape>(column0, n, w, weights);
  await_previous();
  const int warp = static_cast<int>(threadIdx.x) / kWarp, g = static_cast<int>(threadIdx.x) % kWarp / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
  const Bands::Band band = bands.band(static_cast<int>(blockIdx.x));
  pixels.template load<Format, Shape::kChannels, kStride>(band.image, ToRows::kRowsOfLine * band.first,
                                                          ToRows::kRowsOfLine * band.lines + 2, width, 0,
                                                          band_words, [] {});
  __syncthreads();
  for (int warp_row = warp * kWarpRows; warp_row < rows.rows(band.lines); warp_row += kBandThreads) {
    float sums[2][kAcross][4] = {};
    multiply_taps<Format, Shape>(RowsOfBand<Shape, ToRows>(band, rows, warp_row, band_words), width, weights,
                                 sums);
    const int count = rows.count(band.lines, warp_row, g);
    if (count == 0) continue;
    const int i = rows.row(band.image * bands.lines_of_image + band.first, warp_row, g);
    MNIST100_UNROLL
    for (int q = 0; q < kAcross / 2; ++q) {
      const int j = column0 + 16 * q + 4 * t;
      Sums four;
      MNIST100_UNROLL
      for (int c = 0; c < 4; ++c) MNIST100_UNROLL
      for (int r = 0; r < 4; ++r) four[c][r] = sums[r / 2][2 * q + c % 2][r % 2 * 2 + c / 2];
      if (j < n) result(i, count, j, n - j < 4 ? n - j : 4, four);
    }
  }
}

template <class Format, int kChannels, int kColumns, class Pixels, class ToRows, class Weights, class Result>
bool band_product_of(int width, int images, int n, const Pixels& pixels, const ToRows& rows,
                     const Weights& weights, const Result& result, cudaStream_t stream) {
  using Shape = BandShape<Format, kChannels, kColumns, ToRows>;
  const int most = rows.rows(rows.lines()) == 0 ? 0 : Shape::most_lines(rows, width);
  if (most == 0) return false;
  const Bands bands(rows.lines(), most);
  const dim3 grid(static_cast<unsigned>(images) * static_cast<unsigned>(bands.bands),
                  static_cast<unsigned>(ceil_div(n, kColumns)));
  launch(band_product_kernel<Format, Shape, Pixels, ToRows, Weights, Result>, grid, dim3(kBandThreads),
         stream, bands, n, width, pixels, rows, weights, result);
  return true;
}

template <class Format, int kChannels, class Pixels, class ToRows, class Weights, class Result>
bool band_product_in(int width, int images, int n, const Pixels& pixels, const ToRows& rows,
                     const Weights& weights, const Result& result, cudaStream_t stream) {
  // 32 columns of weights leave room for a band where a pixel has up to 16 words.
  if constexpr (kChannels / Format::kOfWord <= 16)
    if (n > 16)
      return band_product_of<Format, kChannels, 32>(width, images, n, pixels, rows, weights, result, stream);
  return band_product_of<Format, kChannels, 16>(width, images, n, pixels, rows, weights, result, stream);
}

// The product of the taps of images of sizes `s`, which `pixels` (pixels.cuh) has, with `weights`, a functor
// as for load_weights, if there is such a kernel; else false, and nothing is done.
template <class Pixels, class ToRows, class Weights, class Result>
bool band_product(const PaddedSizes& s, int images, int n, const Pixels& pixels, const ToRows& rows,
                  const Weights& weights, const Result& result, const Queue& queue) {
  if (queue.precision == Precision::kFp32 || s.bh != 1 || s.bw != 1) return false;
  const auto with = [&]<int kChannels>() {
    return queue.precision == Precision::kBf16
               ? band_product_in<Bf16, kChannels>(s.width(), images, n, pixels, rows, weights, result,
                                                  queue.stream)
               : band_product_in<Tf32, kChannels>(s.width(), images, n, pixels, rows, weights, result,
                                                  queue.stream);
  };
  return s.c == 16 ? with.template operator()<16>() : s.c == 32 ? with.template operator()<32>() : false;
}

}  // namespace mnist100::cuda
