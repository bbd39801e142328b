// The matrix product under every kernel that multiplies: C (m,n) = A (m,k) B (k,n) in single precision, where
// a functor says what A and B hold and another what becomes of C. A convolution is a product whose A gathers.
//
//   struct Operand { static constexpr bool kFastK;  // neighbours in memory follow k, not the row or column
//                    __device__ float operator()(int row_or_column, int k) const; };
//   struct Result  { // sums of rows i .. i + rows - 1 (rows <= 4, i a multiple of 4) in column j
//                    __device__ void operator()(int i, int rows, int j, const float (&sums)[4]) const; };
#pragma once

#include "common.cuh"
#include "device_memory.cuh"

namespace mnist100::cuda {

constexpr int kTile = 64;                        // rows and columns of C in a block
constexpr int kDepth = 16;                       // of k between two barriers
constexpr int kSide = 16;                        // kSide x kSide threads, each with 4 rows and 4 columns
constexpr int kLoads = kTile * kDepth / kBlock;  // elements of an operand that a thread fetches
static_assert(kSide * kSide == kBlock && kSide * 4 == kTile);

// The tile of an operand at (first, from), as [k][row or column]; zero beyond its edges.
template <class Operand>
__device__ void fetch(const Operand& operand, int first, int size, int from, int to, float (&tile)[kLoads]) {
  MNIST100_UNROLL
  for (int load = 0; load < kLoads; ++load) {
    const int at = static_cast<int>(threadIdx.x) + load * kBlock;
    const int index = first + (Operand::kFastK ? at / kDepth : at % kTile);
    const int k = from + (Operand::kFastK ? at % kDepth : at / kTile);
    tile[load] = index < size && k < to ? operand(index, k) : 0.0f;
  }
}

template <class Operand>
__device__ void store(const float (&tile)[kLoads], float (&shared)[kDepth][kTile + 4]) {
  MNIST100_UNROLL
  for (int load = 0; load < kLoads; ++load) {
    const int at = static_cast<int>(threadIdx.x) + load * kBlock;
    const int index = Operand::kFastK ? at / kDepth : at % kTile;
    const int k = Operand::kFastK ? at % kDepth : at / kTile;
    shared[k][index] = tile[load];
  }
}

// Block (tile of C, part of k); tiles row by row, `across` in a row.
template <class A, class B, class Result>
__global__ void __launch_bounds__(kBlock)
    product_kernel(int m, int n, int k, int across, int depth_of_part, A a, B b, Result result) {
  __shared__ float as[kDepth][kTile + 4], bs[kDepth][kTile + 4];
  const int tile = static_cast<int>(blockIdx.x), from = static_cast<int>(blockIdx.y) * depth_of_part;
  const int row0 = tile / across * kTile, column0 = tile % across * kTile;
  const int to = from + depth_of_part < k ? from + depth_of_part : k;
  const int row = static_cast<int>(threadIdx.x) / kSide, column = static_cast<int>(threadIdx.x) % kSide;
  float sums[4][4] = {}, a_next[kLoads], b_next[kLoads];  // sums[column][row]
  fetch(a, row0, m, from, to, a_next);
  fetch(b, column0, n, from, to, b_next);
  for (int start = from; start < to; start += kDepth) {
    store<A>(a_next, as);
    store<B>(b_next, bs);
    __syncthreads();
    if (start + kDepth < to) {  // on their way while this tile is multiplied
      fetch(a, row0, m, start + kDepth, to, a_next);
      fetch(b, column0, n, start + kDepth, to, b_next);
    }
    MNIST100_UNROLL
    for (int p = 0; p < kDepth; ++p) {
      float left[4], right[4];
      MNIST100_UNROLL
      for (int r = 0; r < 4; ++r) left[r] = as[p][4 * row + r];
      MNIST100_UNROLL
      for (int c = 0; c < 4; ++c) right[c] = bs[p][column + c * kSide];  // neighbours store neighbours
      MNIST100_UNROLL
      for (int c = 0; c < 4; ++c) MNIST100_UNROLL
      for (int r = 0; r < 4; ++r) sums[c][r] += left[r] * right[c];
    }
    __syncthreads();
  }
  const int i = row0 + 4 * row, rows = m - i < 4 ? m - i : 4;
  MNIST100_UNROLL
  for (int c = 0; c < 4; ++c)
    if (rows > 0 && column0 + column + c * kSide < n) result(i, rows, column0 + column + c * kSide, sums[c]);
}

// Sums of one part of k, until add_parts.
struct PartialSums {
  float* at;  // [part][n][m rounded up to 4]
  int m4, n;
  __device__ void operator()(int i, int, int j, const float (&sums)[4]) const {
    float* to = at + (static_cast<int64_t>(blockIdx.y) * n + j) * m4 + i;
    for (int r = 0; r < 4; ++r) to[r] = sums[r];
  }
};

template <class Result>
__global__ void add_parts(int m, int n, int parts, PartialSums partial, Result result) {
  const int at = element(), quads = partial.m4 / 4;
  if (at >= quads * n) return;
  const int j = at / quads, i = at % quads * 4;
  float sums[4] = {};
  for (int part = 0; part < parts; ++part)
    for (int r = 0; r < 4; ++r)
      sums[r] += partial.at[(static_cast<int64_t>(part) * n + j) * partial.m4 + i + r];
  result(i, m - i < 4 ? m - i : 4, j, sums);
}

}  // namespace mnist100::cuda
