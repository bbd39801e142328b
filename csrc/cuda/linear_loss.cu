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

// kCount elements, 4 * kCount bytes aligned.
template <int kCount>
__device__ void load_vector(const float* at, float (&x)[kCount]) {
#ifdef MNIST100_EMULATE
  memcpy(x, at, sizeof x);
#else
  if constexpr (kCount == 4) {
    load_quad(at, true, 4, x);
  } else {
    static_assert(kCount == 2);
    const float2 pair = *reinterpret_cast<const float2*>(at);
    x[0] = pair.x;
    x[1] = pair.y;
  }
#endif
}

// Words t and t + 4 of a fragment, of elements that follow one another: k is in the same order on both sides.
template <class Format>
__device__ void pair_of_words(const float (&x)[2 * Format::kOfWord], uint32_t (&words)[2]) {
  MNIST100_UNROLL
  for (int i = 0; i < 2; ++i) {
    float of_word[Format::kOfWord];
    MNIST100_UNROLL
    for (int e = 0; e < Format::kOfWord; ++e) of_word[e] = x[i * Format::kOfWord + e];
    words[i] = Format::word(of_word);
  }
}

template <class Format>
struct Samples {
  static constexpr int kStride = kMostIn / Format::kOfWord + 8;  // pairs of words of four rows are 32 banks
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

using Scores = float[kRows][kMostClasses + 16];  // quads of two rows, read as bfloat16, are 32 banks

// The right fragments of a warp's eight columns.
template <class Format>
class ScoreWeights {
 public:
  // w (classes,in); zero beyond the classes.
  __device__ ScoreWeights(int in, int classes, const float* w) {
    const int column = static_cast<int>(threadIdx.x) / kWarp * 8 + static_cast<int>(threadIdx.x) % kWarp / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
    float of_step[kSteps][2 * Format::kOfWord] = {};
    MNIST100_UNROLL
    for (int step = 0; step < kSteps; ++step)
      if (step < in / kDepth && column < classes)
        load_vector(w + column * in + step * kDepth + 2 * t * Format::kOfWord, of_step[step]);
    MNIST100_UNROLL
    for (int step = 0; step < kSteps; ++step) pair_of_words<Format>(of_step[step], right_[step]);
  }

  // Logits of the block's samples.
  __device__ void multiply(const Samples<Format>& x, int in, int classes, const float* b,
                           Scores& logits) const {
    const int warp = static_cast<int>(threadIdx.x) / kWarp, g = static_cast<int>(threadIdx.x) % kWarp / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
    const uint32_t* const left_at = x.words + g * Samples<Format>::kStride + 2 * t;
    float sums[4] = {};
    MNIST100_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      if (step == in / kDepth) break;
      uint32_t left[4];
      MNIST100_UNROLL
      for (int i = 0; i < 4; ++i)
        left[i] = left_at[i % 2 * 8 * Samples<Format>::kStride + step * kWordsOfMma + i / 2];
      mma<Format>(left, right_[step], sums);
    }
    MNIST100_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int j = 8 * warp + 2 * t + i % 2;
      if (j < classes) logits[g + i / 2 * 8][j] = sums[i] + b[j];
    }
  }

 private:
  static constexpr int kDepth = kWordsOfMma * Format::kOfWord, kSteps = kMostIn / kDepth;
  uint32_t right_[kSteps][2];
};

// dx (n,in) of the block's samples from the gradients at their logits, which are zero beyond the classes:
// times `scale` where y is positive, and zero elsewhere; y null: as it is.
template <class Format>
__device__ void multiply_gradients(const Scores& gradients, int first, int n, int in, int classes,
                                   const float* w, const float* y, float scale, float* dx) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, g = static_cast<int>(threadIdx.x) % kWarp / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
  constexpr int kDepth = kWordsOfMma * Format::kOfWord, kOwn = 2 * Format::kOfWord;  // of k, of a lane
  // Column 2 g + i is column g of tile i, so that a lane ends up with four that follow one another.
  for (int column0 = 16 * warp; column0 < in; column0 += 16 * kWarps) {
    float masks[2][4] = {}, sums[2][4] = {};
    MNIST100_UNROLL
    for (int half = 0; half < 2; ++half)
      if (y && first + g + 8 * half < n)
        load_quad(y + (first + g + 8 * half) * in + column0 + 4 * t, true, 4, masks[half]);
    MNIST100_UNROLL_BY(7)
    for (int k = 0; k < classes; k += kDepth) {
      float of_k[kOwn][2] = {}, of_tile[2][kOwn], of_row[2][kOwn];
      MNIST100_UNROLL
      for (int e = 0; e < kOwn; ++e) {
        const int j = k + kOwn * t + e;
        if (j < classes) load_vector(w + j * in + column0 + 2 * g, of_k[e]);
      }
      MNIST100_UNROLL
      for (int half = 0; half < 2; ++half) load_vector(&gradients[g + 8 * half][k + kOwn * t], of_row[half]);
      MNIST100_UNROLL
      for (int tile = 0; tile < 2; ++tile) MNIST100_UNROLL
      for (int e = 0; e < kOwn; ++e) of_tile[tile][e] = of_k[e][tile];
      uint32_t rows[2][2], right[2];
      MNIST100_UNROLL
      for (int half = 0; half < 2; ++half) pair_of_words<Format>(of_row[half], rows[half]);
      const uint32_t left[4] = {rows[0][0], rows[1][0], rows[0][1], rows[1][1]};
      MNIST100_UNROLL
      for (int tile = 0; tile < 2; ++tile) {
        pair_of_words<Format>(of_tile[tile], right);
        mma<Format>(left, right, sums[tile]);
      }
    }
    MNIST100_UNROLL
    for (int half = 0; half < 2; ++half) {
      float four[4];
      MNIST100_UNROLL
      for (int e = 0; e < 4; ++e) {
        const float sum = sums[e % 2][2 * half + e / 2];
        four[e] = !y ? sum : masks[half][e] > 0.0f ? sum * scale : 0.0f;
      }
      if (first + g + 8 * half < n) store_quad(dx + (first + g + 8 * half) * in + column0 + 4 * t, four);
    }
  }
}

template <class Format>
__global__ void __launch_bounds__(kThreads)
    linear_loss_kernel(int n, int in, int classes, const float* x, const float* w, const float* b,
                       const int64_t* labels, float* dlogits, double* losses, const float* y, float scale,
                       float* dx) {
  // The kernel before this one made x: none that still runs writes weights.
  const ScoreWeights<Format> weights(in, classes, w);
  await_previous();
  alignas(16) __shared__ Samples<Format> samples;
  alignas(16) __shared__ Scores logits;
  alignas(16) __shared__ Scores gradients;
  const int first = static_cast<int>(blockIdx.x) * kRows;
  const int row = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int i = first + row, label = i < n ? static_cast<int>(labels[i]) : 0;
  load_samples(first, n, in, x, samples);
  for (int j = lane; j < kMostClasses; j += kWarp) gradients[row][j] = 0.0f;
  __syncthreads();
  weights.multiply(samples, in, classes, b, logits);
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
  multiply_gradients<Format>(gradients, first, n, in, classes, w, y, scale, dx);
}

}  // namespace

bool linear_loss(const LinearShape& s, const float* x, const float* w, const float* b, const int64_t* labels,
                 float* dlogits, double* losses, const LinearMask& mask, float* dx, const Queue& queue) {
  const bool fits = s.in % 16 == 0 && s.in <= kMostIn && s.out <= kMostClasses;
  if (queue.precision == Precision::kFp32 || !fits || !is_aligned(x) || !is_aligned(w) || !is_aligned(dx))
    return false;
  launch(queue.precision == Precision::kBf16 ? linear_loss_kernel<Bf16> : linear_loss_kernel<Tf32>,
         dim3(static_cast<unsigned>(ceil_div(s.n, kRows))), dim3(kThreads), queue.stream,
         static_cast<int>(s.n), static_cast<int>(s.in), static_cast<int>(s.out), x, w, b, labels, dlogits,
         losses, mask.y, static_cast<float>(mask.scale), dx);
  return true;
}

}  // namespace mnist100::cuda
