// The matrix product under every kernel that multiplies, by the kernel that fits its precision and shape.
#pragma once

#include "product.cuh"
#include "tensor_product.cuh"

namespace mnist100::cuda {

// Few tiles and a long k, as in a weight gradient, leave a GPU idle: k is then cut into parts, whose number
// depends on the shape alone and which are added in order.
constexpr int kWantedBlocks = 256;  // two for each multiprocessor of the largest GPUs
constexpr int kLeastDepth = 256;    // of a part
constexpr int kDepthStep = 32;      // a multiple of what every kernel takes between two barriers

// `kernel(result)` -> the kernel with that result, whose tiles are `rows` x `columns`.
template <class A, class B, class Result, class Kernel>
void multiply_by(Kernel kernel, int rows, int columns, int m, int n, int k, A a, B b, Result result,
                 cudaStream_t stream) {
  const int across = ceil_div(n, columns), down = ceil_div(m, rows);
  if (across == 0 || down == 0) return;
  const int most = ceil_div(k, kLeastDepth), wanted = ceil_div(kWantedBlocks, int64_t{across} * down);
  const int parts = most < 1 ? 1 : most < wanted ? most : wanted;
  const int depth = ceil_div(ceil_div(k, parts), kDepthStep) * kDepthStep;
  const dim3 grid(static_cast<unsigned>(across) * static_cast<unsigned>(down), static_cast<unsigned>(parts));
  if (parts == 1) {
    launch(kernel(result), grid, dim3(kBlock), stream, m, n, k, across, depth, a, b, result);
    return;
  }
  const int m4 = ceil_div(m, 4) * 4;
  Buffer<float> sums(int64_t{parts} * n * m4, stream);
  const PartialSums partial{sums.get(), m4, n};
  launch(kernel(partial), grid, dim3(kBlock), stream, m, n, k, across, depth, a, b, partial);
  launch_elements(add_parts<Result>, int64_t{m4} / 4 * n, stream, m, n, parts, partial, result);
}

template <class Format, int kColumns, class A, class B, class Result>
void multiply_on_tensor_cores(int m, int n, int k, A a, B b, Result result, cudaStream_t stream) {
  multiply_by([]<class R>(const R&) { return tensor_product_kernel<Format, kColumns, A, B, R>; },
              Warps<kColumns>::kRows, kColumns, m, n, k, a, b, result, stream);
}

template <class Format, class A, class B, class Result>
void multiply_in(int m, int n, int k, A a, B b, Result result, cudaStream_t stream) {
  if (n <= 16)
    multiply_on_tensor_cores<Format, 16>(m, n, k, a, b, result, stream);
  else if (n <= 32)
    multiply_on_tensor_cores<Format, 32>(m, n, k, a, b, result, stream);
  else
    multiply_on_tensor_cores<Format, 64>(m, n, k, a, b, result, stream);
}

template <class A, class B, class Result>
void multiply(int m, int n, int k, A a, B b, Result result, const Queue& queue) {
  if (queue.precision == Precision::kBf16)
    multiply_in<Bf16>(m, n, k, a, b, result, queue.stream);
  else if (queue.precision == Precision::kTf32)
    multiply_in<Tf32>(m, n, k, a, b, result, queue.stream);
  else
    multiply_by([]<class R>(const R&) { return product_kernel<A, B, R>; }, kTile, kTile, m, n, k, a, b,
                result, queue.stream);
}

}  // namespace mnist100::cuda
