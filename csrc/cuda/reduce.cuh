// Sums of a whole array in double and in one order.
#pragma once

#include "device_memory.cuh"

namespace mnist100::cuda {

constexpr int kElementsOfPart = 16384;

template <class Term>
__global__ void __launch_bounds__(kBlock) sum_part(int size, Term term, double* parts) {
  await_previous();
  const int from = static_cast<int>(blockIdx.x) * kElementsOfPart;
  const int to = from + kElementsOfPart < size ? from + kElementsOfPart : size;
  double sum = 0;
  for (int i = from + static_cast<int>(threadIdx.x); i < to; i += kBlock) sum += term(i);
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// One block.
static __global__ void __launch_bounds__(kBlock)
    sum_of_parts(int count, double scale, const double* parts, double* result) {
  await_previous();
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kBlock) sum += parts[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *result = sum * scale;
}

// *result = scale * the sum of term(i) for i < size.
template <class Term>
void sum_elements(int64_t size, Term term, double scale, double* result, cudaStream_t stream) {
  const int count = ceil_div(size, kElementsOfPart);
  Buffer<double> parts(count, stream);
  launch(sum_part<Term>, dim3(static_cast<unsigned>(count)), dim3(kBlock), stream, static_cast<int>(size),
         term, parts.get());
  launch(sum_of_parts, dim3(1), dim3(kBlock), stream, count, scale, static_cast<const double*>(parts.get()),
         result);
}

}  // namespace mnist100::cuda
