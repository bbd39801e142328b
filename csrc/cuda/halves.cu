#include "ops.cuh"
#include "padded.cuh"

namespace mnist100::cuda {
namespace {

// Where an element of the padded halves lies in x (n,c,h,2w).
__device__ int64_t in_whole(const PaddedSizes& s, const PaddedPlace& at) {
  const int64_t row = (static_cast<int64_t>(at.n / 2) * s.c + at.c) * s.h + at.y;
  return row * 2 * s.w + at.n % 2 * s.w + at.x;
}

__global__ void split_kernel(PaddedSizes s, int size, const float* x, float* y) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const PaddedPlace at = s.place(i);
  y[i] = s.inside(at) ? x[in_whole(s, at)] : 0.0f;
}

__global__ void join_kernel(PaddedSizes s, int size, const float* y, float* x) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const PaddedPlace at = s.interior(i);
  x[in_whole(s, at)] = y[s.at(at.n, at.y, at.x) + at.c];
}

__global__ void pair_kernel(int size, int k, const float* scores, float* logits) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const float* left = scores + static_cast<int64_t>(i / (k * k)) * 2 * k;
  logits[i] = left[i / k % k] + left[k + i % k];
}

// A thread a score.
__global__ void pair_backward_kernel(int size, int k, const float* dlogits, float* dscores) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const int half = i / k % 2, own = i % k;
  const float* of = dlogits + static_cast<int64_t>(i / (2 * k)) * k * k;
  float sum = 0;
  for (int other = 0; other < k; ++other) sum += half == 0 ? of[own * k + other] : of[other * k + own];
  dscores[i] = sum;
}

}  // namespace

void split_halves(const PaddedShape& s, const float* x, float* y, cudaStream_t stream) {
  const int64_t size = s.n * s.sample();
  launch_elements(split_kernel, size, stream, PaddedSizes(s), static_cast<int>(size), x, y);
}

void join_halves(const PaddedShape& s, const float* y, float* x, cudaStream_t stream) {
  const int64_t size = s.count() * s.c;
  launch_elements(join_kernel, size, stream, PaddedSizes(s), static_cast<int>(size), y, x);
}

void pair_logits(int64_t n, int64_t k, const float* scores, float* logits, cudaStream_t stream) {
  launch_elements(pair_kernel, n * k * k, stream, static_cast<int>(n * k * k), static_cast<int>(k), scores,
                  logits);
}

void pair_logits_backward(int64_t n, int64_t k, const float* dlogits, float* dscores, cudaStream_t stream) {
  launch_elements(pair_backward_kernel, 2 * n * k, stream, static_cast<int>(2 * n * k), static_cast<int>(k),
                  dlogits, dscores);
}

}  // namespace mnist100::cuda
