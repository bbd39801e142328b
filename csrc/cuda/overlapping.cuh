// A band of an image of one channel, in words of a tensor core format that overlap.
#pragma once

#include "band.cuh"

namespace mnist100::cuda {

// Word i + 1 is of pixel i and, if there are two in a word, the next; word 0 of the one before the first.
// Pixels that are none are zero.
template <class Format>
__device__ void load_overlapping(const float* x, int pixels, int words, uint32_t* to) {
  constexpr int kAtOnce = 4;
  const int threads = static_cast<int>(blockDim.x);
  for (int first = static_cast<int>(threadIdx.x); first < words; first += kAtOnce * threads) {
    float of_word[kAtOnce][Format::kOfWord] = {};
    MNIST100_UNROLL
    for (int i = 0; i < kAtOnce; ++i) MNIST100_UNROLL
    for (int e = 0; e < Format::kOfWord; ++e) {
      const int pixel = first + i * threads + e - 1;
      if (pixel >= 0 && pixel < pixels) of_word[i][e] = x[pixel];
    }
    MNIST100_UNROLL
    for (int i = 0; i < kAtOnce; ++i)
      if (first + i * threads < words) to[first + i * threads] = Format::word(of_word[i]);
  }
}

}  // namespace mnist100::cuda
