// The matrix product under every kernel that multiplies, by the kernel that fits its precision and shape.
#pragma once

#include "product.cuh"
#include "tensor_product.cuh"

namespace mnist100::cuda {

// Few tiles and a long k leave a GPU idle: k is then cut into parts, whose number depends on the shape alone
// and which are added in order.
constexpr int kWantedBlocks = 256;  // two for each multiprocessor of the largest GPUs
constexpr int kLeastDepth = 256;    // of a part
constexpr int kDepthStep = 256;     // a multiple of what every kernel takes between two barriers

// `kernel(result)` -> the kernel of this shape with that result.
template <class Shape, bool kCutsDepth, class A, class B, class Result, class Kernel>
void multiply_by(Kernel kernel, int m, int n, int k, A a, B b, Result result, cudaStream_t stream) {
  const int across = ceil_div(n, Shape::kColumns), down = ceil_div(m, Shape::kRows);
  if (across == 0 || down == 0) return;
  const int most = ceil_div(k, kLeastDepth), wanted = ceil_div(kWantedBlocks, int64_t{across} * down);
  const int bounded = most < 1 ? 1 : most < wanted ? most : wanted;
  const int depth = ceil_div(ceil_div(k, bounded), kDepthStep) * kDepthStep;
  const int parts = !kCutsDepth || k <= depth ? 1 : ceil_div(k, depth);
  const dim3 grid(static_cast<unsigned>(across) * static_cast<unsigned>(down), static_cast<unsigned>(parts));
  if (parts == 1) {
    launch(kernel(result), grid, dim3(kBlock), stream, m, n, k, across, k, a, b, result);
    return;
  }
  if constexpr (kCutsDepth) {
    const int m4 = ceil_div(m, 4) * 4;
    Buffer<float> sums(int64_t{parts} * n * m4, stream);
    const PartialSums partial{sums.get(), m4, n};
    launch(kernel(partial), grid, dim3(kBlock), stream, m, n, k, across, depth, a, b, partial);
    add_parts(m, parts, partial, result, stream);
  }
}

template <class Shape, bool kCutsDepth, class A, class B, class Result>
void multiply_threads(int m, int n, int k, A a, B b, Result result, cudaStream_t stream) {
  multiply_by<Shape, kCutsDepth>([]<class R>(const R&) { return product_kernel<Shape, A, B, R>; }, m, n, k, a,
                                 b, result, stream);
}

template <class Format, class Shape, bool kCutsDepth, class A, class B, class Result>
void multiply_warps(int m, int n, int k, A a, B b, Result result, cudaStream_t stream) {
  multiply_by<Shape, kCutsDepth>(
      []<class R>(const R&) { return tensor_product_kernel<Format, Shape, A, B, R>; }, m, n, k, a, b, result,
      stream);
}

// What the shape of a product is like.
struct Tall {  // many rows, few columns, a short k: a convolution
  static constexpr bool kCutsDepth = false;
  using Threads16 = ThreadShape<256, 16>;
  using Threads32 = ThreadShape<128, 32>;
  using Warps16 = WarpShape<256, 16>;
  using Warps32 = WarpShape<256, 32>;
};

struct Deep {  // few rows and columns, a long k: the gradient of a convolution's weights
  static constexpr bool kCutsDepth = true;
  using Threads16 = ThreadShape<32, 16>;
  using Threads32 = ThreadShape<64, 32>;
  using Warps16 = WarpShape<32, 16>;
  using Warps32 = WarpShape<64, 32>;
};

struct Square {  // anything else
  static constexpr bool kCutsDepth = true;
  using Threads = ThreadShape<64, 64>;
  using Warps = WarpShape<64, 64>;
  using FewWarps = WarpShape<32, 32, 1>;
};

// Whether tiles of 64x64 would be so few, and k so short, that a product takes as long as its blocks wait for
// memory, one tile of k after another: smaller ones have all of k at once, and are four times as many.
inline bool is_small(int m, int n, int k) {
  constexpr int kFewTiles = 32, kShort = 512;
  return ceil_div(m, 64) * ceil_div(n, 64) <= kFewTiles && k <= kShort;
}

template <class Kind, class Format, class A, class B, class Result>
void multiply_in(int m, int n, int k, A a, B b, Result result, cudaStream_t stream) {
  if constexpr (requires { typename Kind::Warps; }) {
    if (is_small(m, n, k))
      multiply_warps<Format, typename Kind::FewWarps, false>(m, n, k, a, b, result, stream);
    else
      multiply_warps<Format, typename Kind::Warps, Kind::kCutsDepth>(m, n, k, a, b, result, stream);
  } else if (n <= 16)
    multiply_warps<Format, typename Kind::Warps16, Kind::kCutsDepth>(m, n, k, a, b, result, stream);
  else
    multiply_warps<Format, typename Kind::Warps32, Kind::kCutsDepth>(m, n, k, a, b, result, stream);
}

template <class Kind, class A, class B, class Result>
void multiply(int m, int n, int k, A a, B b, Result result, const Queue& queue) {
  if (queue.precision == Precision::kBf16)
    multiply_in<Kind, Bf16>(m, n, k, a, b, result, queue.stream);
  else if (queue.precision == Precision::kTf32)
    multiply_in<Kind, Tf32>(m, n, k, a, b, result, queue.stream);
  else if constexpr (requires { typename Kind::Threads; })
    multiply_threads<typename Kind::Threads, Kind::kCutsDepth>(m, n, k, a, b, result, queue.stream);
  else if (n <= 16)
    multiply_threads<typename Kind::Threads16, Kind::kCutsDepth>(m, n, k, a, b, result, queue.stream);
  else
    multiply_threads<typename Kind::Threads32, Kind::kCutsDepth>(m, n, k, a, b, result, queue.stream);
}

}  // namespace mnist100::cuda
