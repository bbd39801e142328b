// Bands of padded NHWC images in shared memory, as words of a tensor core format: whole rows of one image and
// the rows above and below that a 3x3 kernel reaches. Each element is read and rounded once for all nine
// taps.
#pragma once

#include "conv_operands.cuh"

namespace mnist100::cuda {

constexpr int kSharedWords = 48 * 1024 / 4;  // of a block, without asking for more

// `size` words of zero, a multiple of four, where 16 bytes want them.
__device__ inline void clear_words(uint32_t* to, int size) {
  const uint32_t zeros[4] = {};
  for (int at = 4 * static_cast<int>(threadIdx.x); at < size; at += 4 * static_cast<int>(blockDim.x))
    store_words(to + at, zeros);
}

// `pixels` pixels of kChannels, one after another at x -> words, `kStride` from pixel to pixel. A thread
// reads kAtOnce quads at a time, and between() runs while the first ones are on their way.
template <class Format, int kChannels, int kStride, int kAtOnce, class Between>
__device__ void load_pixels(const float* x, int pixels, uint32_t* to, const Between& between) {
  constexpr int kQuads = kChannels / 4, kWords = 4 / Format::kOfWord;
  static_assert(kStride % 2 == 0);  // pairs of words are stored
  const int threads = static_cast<int>(blockDim.x), quads = pixels * kQuads;
  for (int first = 0; first < quads; first += kAtOnce * threads) {
    float four[kAtOnce][4] = {};
    const int own = first + static_cast<int>(threadIdx.x);
    MNIST100_UNROLL
    for (int i = 0; i < kAtOnce; ++i)
      if (own + i * threads < quads) load_quad(x + 4 * (own + i * threads), true, 4, four[i]);
    if (first == 0) between();
    MNIST100_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      const int quad = own + i * threads;
      if (quad >= quads) continue;
      uint32_t words[kWords];
      words_of<Format>(four[i], words);
      uint32_t* const at = to + quad / kQuads * kStride + quad % kQuads * kWords;
      MNIST100_UNROLL
      for (int word = 0; word < kWords; word += 2) {
        const uint32_t pair[2] = {words[word], words[word + 1]};
        store_words(at + word, pair);
      }
    }
  }
}

// How images are cut into bands: `lines` of each, the last one shorter.
struct Bands {
  int lines_of_image, lines, bands;
  Divisor by_bands;
  Bands(int lines_of_image_, int most)
      : lines_of_image(lines_of_image_),
        lines(ceil_div(lines_of_image_, ceil_div(lines_of_image_, most))),
        bands(ceil_div(lines_of_image_, lines)),
        by_bands(bands) {}

  struct Band {
    int image, first, lines;
  };
  __device__ Band band(int i) const {
    const int image = by_bands.quotient(i), first = (i - image * bands) * lines;
    const int left = lines_of_image - first;
    return {image, first, left < lines ? left : lines};
  }
};

}  // namespace mnist100::cuda
