// The product of product.cuh on tensor cores. Operands are rounded to the format on their way into shared
// memory, where they lie as [row or column][word of k].
#pragma once

#include "mma.cuh"
#include "product.cuh"

namespace mnist100::cuda {

constexpr int kWordsOfTile = 16;  // of k between two barriers
constexpr int kWarpRows = 32;     // of a warp's part of C: four of each lane group, as results want them

// Words from one row to the next. A lane group reads row 4g + r of A and column g of B, word t: 68g + t and
// 20g + t are 32 banks.
constexpr int kStrideA = kWordsOfTile + 1, kStrideB = kWordsOfTile + 4;

template <int kColumns>
struct Warps {
  static constexpr int kWarpColumns = kColumns < 32 ? kColumns : 32;
  static constexpr int kAcross = kColumns / kWarpColumns;
  static constexpr int kRows = kBlock / kWarp / kAcross * kWarpRows;  // of a block
};

// Words (index, k) of an operand's tile; zero beyond its edges.
template <class Format, int kIndices, class Operand>
struct WordTile {
  static constexpr int kLoads = kIndices * kWordsOfTile / kBlock;
  uint32_t words[kLoads];

  __device__ static int index_of(int at) { return Operand::kFastK ? at / kWordsOfTile : at % kIndices; }
  __device__ static int word_of(int at) { return Operand::kFastK ? at % kWordsOfTile : at / kIndices; }

  __device__ void fetch(const Operand& operand, int first, int size, int from, int to) {
    MNIST100_UNROLL
    for (int load = 0; load < kLoads; ++load) {
      const int at = static_cast<int>(threadIdx.x) + load * kBlock;
      const int index = first + index_of(at), k0 = from + word_of(at) * Format::kOfWord;
      float x[Format::kOfWord];
      MNIST100_UNROLL
      for (int e = 0; e < Format::kOfWord; ++e)
        x[e] = index < size && k0 + e < to ? operand(index, k0 + e) : 0.0f;
      words[load] = Format::word(x);
    }
  }

  __device__ void store(uint32_t* shared, int stride) const {
    MNIST100_UNROLL
    for (int load = 0; load < kLoads; ++load) {
      const int at = static_cast<int>(threadIdx.x) + load * kBlock;
      shared[index_of(at) * stride + word_of(at)] = words[load];
    }
  }
};

// Block (tile of C, part of k); tiles row by row, `across` in a row.
template <class Format, int kColumns, class A, class B, class Result>
__global__ void __launch_bounds__(kBlock)
    tensor_product_kernel(int m, int n, int k, int across, int depth_of_part, A a, B b, Result result) {
  using Shape = Warps<kColumns>;
  constexpr int kTilesAcross = Shape::kWarpColumns / 8;
  __shared__ uint32_t as[Shape::kRows * kStrideA], bs[kColumns * kStrideB];
  const int tile = static_cast<int>(blockIdx.x), from = static_cast<int>(blockIdx.y) * depth_of_part;
  const int row0 = tile / across * Shape::kRows, column0 = tile % across * kColumns;
  const int to = from + depth_of_part < k ? from + depth_of_part : k;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int g = lane / 4, t = lane % 4;
  const int warp_row = warp / Shape::kAcross * kWarpRows;
  const int warp_column = warp % Shape::kAcross * Shape::kWarpColumns;
  float sums[2][kTilesAcross][4] = {};
  WordTile<Format, Shape::kRows, A> a_next;
  WordTile<Format, kColumns, B> b_next;
  a_next.fetch(a, row0, m, from, to);
  b_next.fetch(b, column0, n, from, to);
  constexpr int kDepthOfTile = kWordsOfTile * Format::kOfWord;
  for (int start = from; start < to; start += kDepthOfTile) {
    a_next.store(as, kStrideA);
    b_next.store(bs, kStrideB);
    __syncthreads();
    if (start + kDepthOfTile < to) {  // on their way while this tile is multiplied
      a_next.fetch(a, row0, m, start + kDepthOfTile, to);
      b_next.fetch(b, column0, n, start + kDepthOfTile, to);
    }
    MNIST100_UNROLL
    for (int word = 0; word < kWordsOfTile; word += kWordsOfMma) {
      uint32_t left[2][4], right[kTilesAcross][2];
      // Row g of fragment r is row 4g + 2r of the warp, row g + 8 the one after it: a lane ends up with four
      // rows that follow one another.
      MNIST100_UNROLL
      for (int r = 0; r < 2; ++r) MNIST100_UNROLL
      for (int i = 0; i < 4; ++i)
        left[r][i] = as[(warp_row + 4 * g + 2 * r + i % 2) * kStrideA + word + t + i / 2 * 4];
      MNIST100_UNROLL
      for (int c = 0; c < kTilesAcross; ++c) MNIST100_UNROLL
      for (int i = 0; i < 2; ++i) right[c][i] = bs[(warp_column + 8 * c + g) * kStrideB + word + t + i * 4];
      MNIST100_UNROLL
      for (int r = 0; r < 2; ++r) MNIST100_UNROLL
      for (int c = 0; c < kTilesAcross; ++c) mma<Format>(left[r], right[c], sums[r][c]);
    }
    __syncthreads();
  }
  const int i = row0 + warp_row + 4 * g, rows = m - i < 4 ? m - i : 4;
  MNIST100_UNROLL
  for (int c = 0; c < kTilesAcross; ++c) MNIST100_UNROLL
  for (int side = 0; side < 2; ++side) {
    const int j = column0 + warp_column + 8 * c + 2 * t + side;
    const float four[4] = {sums[0][c][side], sums[0][c][2 + side], sums[1][c][side], sums[1][c][2 + side]};
    if (rows > 0 && j < n) result(i, rows, j, four);
  }
}

}  // namespace mnist100::cuda
