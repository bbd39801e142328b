// The matrix product under every kernel that multiplies: C (m,n) = A (m,k) B (k,n) in single precision, where
// operands (tiles.cuh) say what A and B hold and a functor what becomes of C. A convolution is a product
// whose A gathers.
//
//   struct Result { // sums[c][r] of row i + r, r < rows <= 4, in column j + c, c < columns <= 4; j is a
//                   // multiple of four, and so is i unless rows is 1
//                   __device__ void operator()(int i, int rows, int j, int columns, const Sums& sums) const;
//                   };
#pragma once

#include "device_memory.cuh"
#include "tiles.cuh"

namespace mnist100::cuda {

using Sums = float[4][4];

// Four columns of a row of `to`, as 16 bytes where they lie so.
__device__ inline void store_row(float* to, bool aligned, int columns, const float (&x)[4]) {
  if (aligned && columns >= 4) return store_quad(to, x);
  MNIST100_UNROLL
  for (int c = 0; c < 4; ++c)
    if (c < columns) to[c] = x[c];
}

// A block's tile of C, four rows and four columns a thread; threads that are left over share k.
template <int kRows_, int kColumns_>
struct ThreadShape {
  static constexpr int kRows = kRows_, kColumns = kColumns_;
  static constexpr int kAcross = kColumns / 4, kThreads = kAcross * kRows / 4;
  static constexpr int kGroups = kBlock / kThreads;  // each takes its part of k
  static constexpr int kDepthOfGroup = kGroups == 1 ? 16 : 8;
  static constexpr int kDepth = kGroups * kDepthOfGroup;  // of k between two barriers
  static constexpr int kStrideA = kRows + 4, kStrideB = kColumns + 4;
  static constexpr int kTileWords = kDepth * (kStrideA + kStrideB);
  static constexpr int kShared =
      kTileWords > (kGroups - 1) * kRows* kColumns ? kTileWords : (kGroups - 1) * kRows * kColumns;
};

// Adds the sums of the other groups to those of group 0, in their order. `shared` holds them all.
template <int kGroups, int kCount>
__device__ void add_groups(int group, int place, int places, float* shared, float (&sums)[kCount]) {
  if (kGroups == 1) return;
  if (group > 0) MNIST100_UNROLL
  for (int i = 0; i < kCount; ++i) shared[((group - 1) * kCount + i) * places + place] = sums[i];
  __syncthreads();
  if (group > 0) return;
  for (int other = 0; other < kGroups - 1; ++other) MNIST100_UNROLL
  for (int i = 0; i < kCount; ++i) sums[i] += shared[(other * kCount + i) * places + place];
}

// Block (tile of C, part of k); tiles row by row, `across` in a row.
template <class Shape, class A, class B, class Result>
__global__ void __launch_bounds__(kBlock)
    product_kernel(int m, int n, int k, int across, int depth_of_part, A a, B b, Result result) {
  await_previous();
  alignas(16) __shared__ float shared[Shape::kShared];
  float* const as = shared;
  float* const bs = shared + Shape::kDepth * Shape::kStrideA;
  const int tile = static_cast<int>(blockIdx.x), from = static_cast<int>(blockIdx.y) * depth_of_part;
  const int row0 = tile / across * Shape::kRows, column0 = tile % across * Shape::kColumns;
  const int to = from + depth_of_part < k ? from + depth_of_part : k;
  const int self = static_cast<int>(threadIdx.x) % Shape::kThreads;
  const int group = static_cast<int>(threadIdx.x) / Shape::kThreads;
  const int row = self / Shape::kAcross, column = self % Shape::kAcross;
  float sums[16] = {};  // [column][row]
  Fetcher<A, Shape::kRows, Shape::kDepth, 1> a_next;
  Fetcher<B, Shape::kColumns, Shape::kDepth, 1> b_next;
  a_next.begin(a, row0);
  b_next.begin(b, column0);
  a_next.fetch(a, row0, m, from, to);
  b_next.fetch(b, column0, n, from, to);
  for (int start = from; start < to; start += Shape::kDepth) {
    a_next.each(a, [&](int i, int p, float x) { as[p * Shape::kStrideA + i] = x; });
    b_next.each(b, [&](int j, int p, float x) { bs[p * Shape::kStrideB + j] = x; });
    __syncthreads();
    if (start + Shape::kDepth < to) {  // on their way while this tile is multiplied
      a_next.fetch(a, row0, m, start + Shape::kDepth, to);
      b_next.fetch(b, column0, n, start + Shape::kDepth, to);
    }
    MNIST100_UNROLL
    for (int p = 0; p < Shape::kDepthOfGroup; ++p) {
      const int at = group * Shape::kDepthOfGroup + p;
      float left[4], right[4];
      load_quad(as + at * Shape::kStrideA + 4 * row, true, 4, left);
      load_quad(bs + at * Shape::kStrideB + 4 * column, true, 4, right);
      MNIST100_UNROLL
      for (int c = 0; c < 4; ++c) MNIST100_UNROLL
      for (int r = 0; r < 4; ++r) sums[4 * c + r] += left[r] * right[c];
    }
    __syncthreads();
  }
  add_groups<Shape::kGroups>(group, self, Shape::kThreads, shared, sums);
  const int i = row0 + 4 * row, j = column0 + 4 * column;
  if (group > 0 || i >= m || j >= n) return;
  Sums four;
  MNIST100_UNROLL
  for (int c = 0; c < 4; ++c) MNIST100_UNROLL
  for (int r = 0; r < 4; ++r) four[c][r] = sums[4 * c + r];
  result(i, m - i < 4 ? m - i : 4, j, n - j < 4 ? n - j : 4, four);
}

// Sums of one part of k, until add_parts.
struct PartialSums {
  float* at;  // [part][n][m rounded up to 4]
  int m4, n;
  __device__ void operator()(int i, int, int j, int columns, const Sums& sums) const {
    float* to = at + (static_cast<int64_t>(blockIdx.y) * n + j) * m4 + i;
    MNIST100_UNROLL
    for (int c = 0; c < 4; ++c)
      if (c < columns) store_quad(to + c * m4, sums[c]);
  }
};

// How a block of add_parts is shared out: it makes kSummed times four by four sums, each by kAdders threads.
template <int kSummed_>
struct Adders {
  static constexpr int kSummed = kSummed_, kAdders = kBlock / kSummed;
  static constexpr int kWarps = kBlock / kWarp;
};

// `count` quads of rows and columns; `quads` of rows.
template <class Shape, class Result>
__global__ void __launch_bounds__(kBlock)
    add_parts_kernel(int m, int quads, int count, int parts, PartialSums partial, Result result) {
  await_previous();
  constexpr int kSummed = Shape::kSummed;
  constexpr int kSize = 16 * kSummed;
  __shared__ float of_warp[Shape::kWarps][kSize], total[kSize];  // [column][row][place]
  const int place = static_cast<int>(threadIdx.x) % kSummed, adder = static_cast<int>(threadIdx.x) / kSummed;
  const int at = static_cast<int>(blockIdx.x) * kSummed + place;
  const int j = at / quads * 4, i = at % quads * 4, columns = partial.n - j < 4 ? partial.n - j : 4;
  float sums[16] = {};
  if (at < count) MNIST100_UNROLL_BY(2)
  for (int part = adder; part < parts; part += Shape::kAdders) {
    const float* from = partial.at + (static_cast<int64_t>(part) * partial.n + j) * partial.m4 + i;
    float more[4][4] = {};
    MNIST100_UNROLL
    for (int c = 0; c < 4; ++c)
      if (c < columns) load_quad(from + c * partial.m4, true, 4, more[c]);
    MNIST100_UNROLL
    for (int c = 0; c < 4; ++c) MNIST100_UNROLL
    for (int r = 0; r < 4; ++r) sums[4 * c + r] += more[c][r];
  }
  MNIST100_UNROLL
  for (int i_sum = 0; i_sum < 16; ++i_sum)
    for (int apart = kWarp / 2; apart >= kSummed; apart /= 2)
      sums[i_sum] += __shfl_xor_sync(0xffffffffu, sums[i_sum], apart);
  const int self = static_cast<int>(threadIdx.x);
  if (self % kWarp < kSummed) MNIST100_UNROLL
  for (int e = 0; e < 16; ++e) of_warp[self / kWarp][e * kSummed + place] = sums[e];
  __syncthreads();
  if (self < kSize) {
    float sum = 0;
    MNIST100_UNROLL
    for (int warp = 0; warp < Shape::kWarps; ++warp) sum += of_warp[warp][self];
    total[self] = sum;
  }
  __syncthreads();
  const int row = adder;  // of the four, for the first four adders
  if (adder >= 4 || at >= count || i + row >= m) return;
  Sums alone = {};
  MNIST100_UNROLL
  for (int c = 0; c < 4; ++c) alone[c][0] = total[(4 * c + row) * kSummed + place];
  result(i + row, 1, j, columns, alone);
}

// The result (m, n) from the sums of all its parts.
template <class Result>
void add_parts(int m, int parts, const PartialSums& partial, const Result& result, cudaStream_t stream) {
  const int quads = ceil_div(m, 4), count = quads * ceil_div(partial.n, 4);
  const auto run = [&]<class Shape>(Shape) {
    launch(add_parts_kernel<Shape, Result>, dim3(static_cast<unsigned>(ceil_div(count, Shape::kSummed))),
           dim3(kBlock), stream, m, quads, count, parts, partial, result);
  };
  // A thread reads about two parts, one after another.
  if (parts <= 32)
    run(Adders<16>());
  else if (parts <= 256)
    run(Adders<2>());
  else
    run(Adders<1>());
}

}  // namespace mnist100::cuda
