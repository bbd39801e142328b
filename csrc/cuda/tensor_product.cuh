// The product of product.cuh on tensor cores. Operands are rounded to the format on their way into shared
// memory, where they lie as [row or column][word of k].
#pragma once

#include "mma.cuh"
#include "product.cuh"

namespace mnist100::cuda {

constexpr int kWordsOfGroup = 16;  // of k between two barriers
constexpr int kWarpRows = 32;      // of a warp's part of C: four of each lane group, as results want them

// A block's tile of C, shared out to warps; those that are left over share k.
// kBlocksOfSm_: blocks that a multiprocessor has room for at least.
template <int kRows_, int kColumns_, int kBlocksOfSm_ = 2>
struct WarpShape {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kBlocksOfSm = kBlocksOfSm_;
  static constexpr int kWarpColumns = kColumns < 32 ? kColumns : 32;
  static constexpr int kAcross = kColumns / kWarpColumns, kWarps = kAcross * kRows / kWarpRows;
  static constexpr int kGroups = kBlock / kWarp / kWarps;
  static constexpr int kWords = kGroups * kWordsOfGroup;
  // Eight rows of a fragment, four words each, are 32 banks: they begin at 20 g, or at 4 g from 32 words on.
  static constexpr int kStride = kWords + 4;
  // Where columns are written four by four, every fourth has to begin at another bank too: 4 * 9 g is 4 g.
  template <bool kQuadOfK>
  static constexpr int kStrideB = kQuadOfK ? kStride : kWords / 32 * 32 + (kWords % 32 > 9 ? 41 : 9);
  static constexpr int kTileWords = kRows * kStride + kColumns * kStrideB<false>;
  static constexpr int kShared =
      kTileWords > (kGroups - 1) * kRows* kColumns ? kTileWords : (kGroups - 1) * kRows * kColumns;
};

// Where row 4 g + 2 r + h of a warp's part lies: at row g + 8 h of fragment r, so that a lane ends up with
// four rows that follow one another.
__device__ inline int fragment_row(int i) { return (i & ~31) | (i & 2) << 3 | (i & 1) << 3 | (i >> 2 & 7); }

// Where column 16 q + 2 g + h lies: at column g of fragment 2 q + h, so that a lane, which has columns 2 t
// and 2 t + 1 of a fragment, ends up with four that follow one another.
__device__ inline int fragment_column(int j) { return (j & ~15) | (j & 1) << 3 | (j >> 1 & 7); }

// Four elements that follow k, as words.
template <class Format>
__device__ void words_of(const float (&four)[4], uint32_t (&words)[4 / Format::kOfWord]) {
  MNIST100_UNROLL
  for (int word = 0; word < 4 / Format::kOfWord; ++word) {
    float of_word[Format::kOfWord];
    MNIST100_UNROLL
    for (int e = 0; e < Format::kOfWord; ++e) of_word[e] = four[word * Format::kOfWord + e];
    words[word] = Format::word(of_word);
  }
}

template <int kWords>
__device__ void store_words(uint32_t* to, const uint32_t (&words)[kWords]) {
#ifdef MNIST100_EMULATE
  memcpy(to, words, sizeof words);
#else
  if constexpr (kWords == 4)
    *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
  else if constexpr (kWords == 2)
    *reinterpret_cast<uint2*>(to) = make_uint2(words[0], words[1]);
  else
    *to = words[0];
#endif
}

// Block (tile of C, part of k); tiles row by row, `across` in a row.
template <class Format, class Shape, class A, class B, class Result>
__global__ void __launch_bounds__(kBlock, Shape::kBlocksOfSm)
    tensor_product_kernel(int m, int n, int k, int across, int depth_of_part, A a, B b, Result result) {
  await_previous();
  constexpr int kTilesAcross = Shape::kWarpColumns / 8, kStride = Shape::kStride;
  constexpr int kStrideB = Shape::template kStrideB<B::kQuadOfK>;
  constexpr int kDepth = Shape::kWords * Format::kOfWord;
  alignas(16) __shared__ uint32_t shared[Shape::kShared];
  uint32_t* const as = shared;
  uint32_t* const bs = shared + Shape::kRows * kStride;
  const int tile = static_cast<int>(blockIdx.x), from = static_cast<int>(blockIdx.y) * depth_of_part;
  const int row0 = tile / across * Shape::kRows, column0 = tile % across * Shape::kColumns;
  const int to = from + depth_of_part < k ? from + depth_of_part : k;
  const int group = static_cast<int>(threadIdx.x) / (Shape::kWarps * kWarp);
  const int self = static_cast<int>(threadIdx.x) % (Shape::kWarps * kWarp);
  const int warp = self / kWarp, g = self % kWarp / 4, t = self % 4;
  const int warp_row = warp / Shape::kAcross * kWarpRows;
  const int warp_column = warp % Shape::kAcross * Shape::kWarpColumns;
  float sums[2][kTilesAcross][4] = {};
  Fetcher<A, Shape::kRows, kDepth, Format::kOfWord> a_next;
  Fetcher<B, Shape::kColumns, kDepth, Format::kOfWord> b_next;
  a_next.begin(a, row0);
  b_next.begin(b, column0);
  a_next.fetch(a, row0, m, from, to);
  b_next.fetch(b, column0, n, from, to);
  for (int start = from; start < to; start += kDepth) {
    a_next.template each_words<Format>(a, [&](int i, int word, const auto& words) {
      store_words(as + fragment_row(i) * kStride + word, words);
    });
    b_next.template each_words<Format>(b, [&](int j, int word, const auto& words) {
      store_words(bs + fragment_column(j) * kStrideB + word, words);
    });
    __syncthreads();
    if (start + kDepth < to) {  // on their way while this tile is multiplied
      a_next.fetch(a, row0, m, start + kDepth, to);
      b_next.fetch(b, column0, n, start + kDepth, to);
    }
    MNIST100_UNROLL
    for (int step = 0; step < kWordsOfGroup; step += kWordsOfMma) {
      const int word = group * kWordsOfGroup + step;
      uint32_t left[2][4], right[kTilesAcross][2];
      MNIST100_UNROLL
      for (int r = 0; r < 2; ++r) load_left<kStride>(as + (warp_row + 16 * r) * kStride + word, left[r]);
      load_right<kStrideB>(bs + warp_column * kStrideB + word, right);
      MNIST100_UNROLL
      for (int r = 0; r < 2; ++r) MNIST100_UNROLL
      for (int c = 0; c < kTilesAcross; ++c) mma<Format>(left[r], right[c], sums[r][c]);
    }
    __syncthreads();
  }
  float flat[kTilesAcross * 8];  // [four columns][column][row]
  MNIST100_UNROLL
  for (int c = 0; c < kTilesAcross; ++c) MNIST100_UNROLL
  for (int side = 0; side < 2; ++side) MNIST100_UNROLL
  for (int r = 0; r < 4; ++r)
    flat[16 * (c / 2) + 4 * (2 * side + c % 2) + r] = sums[r / 2][c][r % 2 * 2 + side];
  add_groups<Shape::kGroups>(group, self, Shape::kWarps * kWarp, reinterpret_cast<float*>(shared), flat);
  const int i = row0 + warp_row + 4 * g;
  if (group > 0 || i >= m) return;
  MNIST100_UNROLL
  for (int q = 0; q < kTilesAcross / 2; ++q) {
    const int j = column0 + warp_column + 16 * q + 4 * t;
    Sums four;
    MNIST100_UNROLL
    for (int c = 0; c < 4; ++c) MNIST100_UNROLL
    for (int r = 0; r < 4; ++r) four[c][r] = flat[16 * q + 4 * c + r];
    if (j < n) result(i, m - i < 4 ? m - i : 4, j, n - j < 4 ? n - j : 4, four);
  }
}

}  // namespace mnist100::cuda
