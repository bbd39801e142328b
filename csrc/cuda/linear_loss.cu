// The last layer of a network, the loss and the gradient at that layer's input in one kernel on tensor cores.
// Each of the three alone would mostly wait for its start.
#include "loss_row.cuh"
#include "mma.cuh"
#include "ops.cuh"
#include "quads.cuh"
#include "tensor_product.cuh"

namespace mnist100::cuda {
namespace {

constexpr int kRows = 16;  // samples of a block: rows of a fragment
constexpr int kMostIn = 256, kMostClasses = 128;
constexpr int kThreads = kWarp * kRows;  // a warp's share are a row of logits and eight columns of them
constexpr int kWarps = kThreads / kWarp;
static_assert(kMostClasses == 8 * kWarps);

// The word of kOfWord elements that lie at `at`, as a pair of them wants them.
template <class Format>
__device__ uint32_t word_at(const float* at) {
  float x[Format::kOfWord];
#ifdef MNIST100_EMULATE
  memcpy(x, at, sizeof x);
#else
  if constexpr (Format::kOfWord == 2) {
    const float2 pair = *reinterpret_cast<const float2*>(at);
    x[0] = pair.x;
    x[1] = pair.y;
  } else {
    x[0] = *at;
  }
#endif
  return Format::word(x);
}

template <class Format>
struct Samples {
  static constexpr int kStride = kMostIn / Format::kOfWord + 4;  // a lane group's words are in 32 banks
  uint32_t words[kRows * kStride];
};

// x (n,in) -> the block's samples; zero beyond n.
template <class Format>
__device__ void load_samples(int first, int n, int in, const float* x, Samples<Format>& to) {
  constexpr int kLoads = kMostIn / 4 / kWarp;  // of four elements, of a warp's row
  const int row = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  float four[kLoads][4] = {};
  MNIST100_UNROLL
  for (int i = 0; i < kLoads; ++i)
    if (first + row < n && 4 * (lane + i * kWarp) < in)
      load_quad(x + (first + row) * in + 4 * (lane + i * kWarp), true, 4, four[i]);
  MNIST100_UNROLL
  for (int i = 0; i < kLoads; ++i) {
    constexpr int kWords = 4 / Format::kOfWord;
    uint32_t words[kWords];
    words_of<Format>(four[i], words);
    store_words(to.words + row * Samples<Format>::kStride + kWords * (lane + i * kWarp), words);
  }
}

using Scores = float[kRows][kMostClasses + 4];

// Logits of the block's samples; w (classes,in).
template <class Format>
__device__ void multiply_samples(const Samples<Format>& x, int in, int classes, const float* w,
                                 const float* b, Scores& logits) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, g = static_cast<int>(threadIdx.x) % kWarp / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
  const uint32_t* const left_at = x.words + g * Samples<Format>::kStride + t;
  const int column = 8 * warp + g;
  float sums[4] = {};
  MNIST100_UNROLL_BY(16)
  for (int step = 0; step < in / Format::kOfWord; step += kWordsOfMma) {
    uint32_t left[4], right[2];
    MNIST100_UNROLL
    for (int i = 0; i < 2; ++i)
      right[i] =
          column < classes ? word_at<Format>(w + column * in + (step + t + 4 * i) * Format::kOfWord) : 0;
    MNIST100_UNROLL
    for (int i = 0; i < 4; ++i) left[i] = left_at[i % 2 * 8 * Samples<Format>::kStride + step + i / 2 * 4];
    mma<Format>(left, right, sums);
  }
  MNIST100_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int j = 8 * warp + 2 * t + i % 2;
    if (j < classes) logits[g + i / 2 * 8][j] = sums[i] + b[j];
  }
}

// dx (n,in) of the block's samples from the gradients at their logits, which are zero beyond the classes.
template <class Format>
__device__ void multiply_gradients(const Scores& gradients, int first, int n, int in, int classes,
                                   const float* w, float* dx) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, g = static_cast<int>(threadIdx.x) % kWarp / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
  constexpr int kDepth = kWordsOfMma * Format::kOfWord, kAtOnce = 2;  // tiles of eight columns
  for (int column0 = 8 * kAtOnce * warp; column0 < in; column0 += 8 * kAtOnce * kWarps) {
    float sums[kAtOnce][4] = {};
    MNIST100_UNROLL_BY(7)
    for (int k = 0; k < classes; k += kDepth) {
      uint32_t left[4];
      MNIST100_UNROLL
      for (int i = 0; i < 4; ++i)
        left[i] = word_at<Format>(&gradients[g + i % 2 * 8][k + (t + i / 2 * 4) * Format::kOfWord]);
      MNIST100_UNROLL
      for (int tile = 0; tile < kAtOnce; ++tile) {
        const int column = column0 + 8 * tile + g;
        uint32_t right[2];
        MNIST100_UNROLL
        for (int i = 0; i < 2; ++i) {
          float of_word[Format::kOfWord];
          MNIST100_UNROLL
          for (int e = 0; e < Format::kOfWord; ++e) {
            const int j = k + (t + 4 * i) * Format::kOfWord + e;
            of_word[e] = j < classes && column < in ? w[j * in + column] : 0.0f;
          }
          right[i] = Format::word(of_word);
        }
        mma<Format>(left, right, sums[tile]);
      }
    }
    MNIST100_UNROLL
    for (int tile = 0; tile < kAtOnce; ++tile) MNIST100_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = first + g + i / 2 * 8, column = column0 + 8 * tile + 2 * t + i % 2;
      if (row < n && column < in) dx[row * in + column] = sums[tile][i];
    }
  }
}

template <class Format>
__global__ void __launch_bounds__(kThreads)
    linear_loss_kernel(int n, int in, int classes, const float* x, const float* w, const float* b,
                       const int64_t* labels, float* dlogits, double* losses, float* dx) {
  await_previous();
  alignas(16) __shared__ Samples<Format> samples;
  alignas(16) __shared__ Scores logits;
  alignas(16) __shared__ Scores gradients;
  const int first = static_cast<int>(blockIdx.x) * kRows;
  const int row = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int i = first + row, label = i < n ? static_cast<int>(labels[i]) : 0;
  load_samples(first, n, in, x, samples);
  for (int at = static_cast<int>(threadIdx.x); at < kRows * (kMostClasses + 4); at += kThreads)
    gradients[at / (kMostClasses + 4)][at % (kMostClasses + 4)] = 0.0f;
  __syncthreads();
  multiply_samples(samples, in, classes, w, b, logits);
  __syncthreads();
  if (i < n) {
    const double loss = cross_entropy_row(lane, classes, logits[row], label, 1.0f / static_cast<float>(n),
                                          [&](int j, float gradient) {
                                            gradients[row][j] = gradient;
                                            dlogits[i * classes + j] = gradient;
                                          });
    if (lane == 0) losses[i] = loss;
  }
  __syncthreads();
  multiply_gradients<Format>(gradients, first, n, in, classes, w, dx);
}

}  // namespace

bool linear_loss(const LinearShape& s, const float* x, const float* w, const float* b, const int64_t* labels,
                 float* dlogits, double* losses, float* dx, const Queue& queue) {
  const bool fits = s.in % 16 == 0 && s.in <= kMostIn && s.out <= kMostClasses;
  if (queue.precision == Precision::kFp32 || !fits || !is_aligned(x) || !is_aligned(w)) return false;
  launch(queue.precision == Precision::kBf16 ? linear_loss_kernel<Bf16> : linear_loss_kernel<Tf32>,
         dim3(static_cast<unsigned>(ceil_div(s.n, kRows))), dim3(kThreads), queue.stream,
         static_cast<int>(s.n), static_cast<int>(s.in), static_cast<int>(s.out), x, w, b, labels, dlogits,
         losses, dx);
  return true;
}

}  // namespace mnist100::cuda
