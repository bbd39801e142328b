// Where the pixels of a band (band.cuh) come from: a padded NHWC image as it is, or the gradient that reaches
// the result of a conv block before its pool, which then lies nowhere else.
//
//   struct Pixels {
//     // Rows top .. top + rows - 1 of a padded image, whole rows of `width` pixels of kChannels, and as many
//     // pixels of zeros as `behind` says -> words, kStride from pixel to pixel. The whole block calls it,
//     and
//     // synchronises before and afterwards. between() runs while memory is waited for.
//     template <class Format, int kChannels, int kStride, class Between>
//     __device__ void load(int image, int top, int rows, int width, int behind, uint32_t* to,
//                          const Between& between) const;
//   };
#pragma once

#include "band.cuh"
#include "ops.cuh"

namespace mnist100::cuda {

struct DensePixels {
  const float* x;
  int height;  // border and all
  template <class Format, int kChannels, int kStride, class Between>
  __device__ void load(int image, int top, int rows, int width, int behind, uint32_t* to,
                       const Between& between) const {
    clear_words(to + rows * width * kStride, behind * kStride);
    load_pixels<Format, kChannels, kStride, 4>(x + (image * height + top) * width * kChannels, rows * width,
                                               to, between);
  }
};

// dy where argmax chose a place of a 2x2 window, and zero elsewhere. argmax has the dead marked. The image
// has a border of one pixel.
class PooledPixels {
 public:
  PooledPixels(const ConvBlockShape& s, const PooledPlaces& places, const float* dy, const uint8_t* argmax)
      : places_(places),
        ph_(static_cast<int>(s.ph())),
        pw_(static_cast<int>(s.pw())),
        channels_(static_cast<int>(s.oc)),
        by_pw_(pw_),
        dy_(dy),
        argmax_(argmax),
        aligned_(places.is_in_fours() && is_aligned(dy)) {}

  int lines() const { return ph_; }
  int windows() const { return ph_ * pw_; }
  // The same from another channel on.
  __device__ PooledPixels from_channel(int channel) const {
    PooledPixels pixels = *this;
    pixels.places_.first += channel * places_.channel;
    pixels.argmax_ += channel;
    return pixels;
  }

  template <class Format, int kChannels, int kStride, class Between>
  __device__ void load(int image, int top, int rows, int width, int behind, uint32_t* to,
                       const Between& between) const {
    constexpr int kQuads = kChannels / 4, kAtOnce = 3;
    const int threads = static_cast<int>(blockDim.x), end = (top + rows) / 2;
    const int first_line = top > 1 ? (top - 1) / 2 : 0;
    const int windows = ((end < ph_ ? end : ph_) - first_line) * pw_, units = windows * kQuads;
    for (int first = 0; first == 0 || first < units; first += kAtOnce * threads) {
      Gradient gradients[kAtOnce] = {};
      const int own = first + static_cast<int>(threadIdx.x);
      MNIST100_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        const int unit = own + i * threads;
        if (unit >= units) continue;
        // Neighbouring threads follow what is adjacent in dy.
        const int window = aligned_ ? unit / kQuads : unit % windows;
        const int quad = aligned_ ? unit % kQuads : unit / windows;
        const int line = by_pw_.quotient(window), column = window - line * pw_;
        read(image, first_line + line, column, 4 * quad, gradients[i]);
        gradients[i].row = 2 * (first_line + line) + 1 - top;
        gradients[i].at = (gradients[i].row * width + 1 + 2 * column) * kStride + 4 * quad / Format::kOfWord;
      }
      if (first == 0) {
        between();
        clear_words(to, (rows * width + behind) * kStride);
        __syncthreads();
      }
      MNIST100_UNROLL
      for (int i = 0; i < kAtOnce; ++i)
        if (own + i * threads < units) write<Format, kStride>(gradients[i], rows, width, to);
    }
  }

 private:
  struct Gradient {  // of four channels of a window
    float x[4];
    uint32_t chosen;  // a byte each
    int row, at;      // of its first pixel
  };

  __device__ void read(int image, int y, int x, int o, Gradient& gradient) const {
    const int in_dy = places_.at(image, y, x, o), in_argmax = ((image * ph_ + y) * pw_ + x) * channels_ + o;
    if (aligned_) {
      load_quad(dy_ + in_dy, true, 4, gradient.x);
    } else {
      MNIST100_UNROLL
      for (int c = 0; c < 4; ++c) gradient.x[c] = dy_[in_dy + c * places_.channel];
    }
    gradient.chosen = *reinterpret_cast<const uint32_t*>(argmax_ + in_argmax);
  }

  template <class Format, int kStride>
  __device__ void write(const Gradient& gradient, int rows, int width, uint32_t* to) const {
    MNIST100_UNROLL
    for (int place = 0; place < 4; ++place) {
      const int row = gradient.row + place / 2;
      if (row < 0 || row >= rows) continue;
      uint32_t* const pixel = to + gradient.at + (place / 2 * width + place % 2) * kStride;
      MNIST100_UNROLL
      for (int word = 0; word < 4 / Format::kOfWord; ++word) {
        float of_word[Format::kOfWord];
        MNIST100_UNROLL
        for (int e = 0; e < Format::kOfWord; ++e) {
          const int c = word * Format::kOfWord + e;
          of_word[e] = static_cast<int>(gradient.chosen >> 8 * c & 255u) == place ? gradient.x[c] : 0.0f;
        }
        pixel[word] = Format::word(of_word);
      }
    }
  }

  PooledPlaces places_;
  int ph_, pw_, channels_;
  Divisor by_pw_;
  const float* dy_;
  const uint8_t* argmax_;
  bool aligned_;
};

}  // namespace mnist100::cuda
