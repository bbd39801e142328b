#include "loss_row.cuh"
#include "ops.cuh"
#include "reduce.cuh"

namespace mnist100::cuda {
namespace {

constexpr int kRowsAtOnce = kBlock / kWarp;  // a warp a row

// exp(x - largest) is summed in double, as many classes of nearly no probability would vanish beside one.
__device__ double exp_sum(int lane, int classes, const float* row, float largest) {
  double sum = 0;
  for (int j = lane; j < classes; j += kWarp) sum += static_cast<double>(exp_normal(row[j] - largest));
  return warp_sum(sum);
}

__global__ void softmax_kernel(int n, int classes, const float* x, float* p) {
  await_previous();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int i = static_cast<int>(blockIdx.x) * kRowsAtOnce + static_cast<int>(threadIdx.x) / kWarp;
  if (i >= n) return;
  const float* row = x + static_cast<int64_t>(i) * classes;
  const float largest = row_max(lane, classes, row);
  const float scale = static_cast<float>(1.0 / exp_sum(lane, classes, row, largest));
  for (int j = lane; j < classes; j += kWarp)
    p[static_cast<int64_t>(i) * classes + j] = exp_normal(row[j] - largest) * scale;
}

__global__ void cross_entropy_kernel(int n, int classes, const float* logits, const int64_t* labels,
                                     float* dlogits, double* losses) {
  await_previous();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int i = static_cast<int>(blockIdx.x) * kRowsAtOnce + static_cast<int>(threadIdx.x) / kWarp;
  if (i >= n) return;
  const float* row = logits + static_cast<int64_t>(i) * classes;
  float* const to = dlogits + static_cast<int64_t>(i) * classes;
  const double loss =
      cross_entropy_row(lane, classes, row, static_cast<int>(labels[i]), 1.0f / static_cast<float>(n),
                        [to](int j, float gradient) { to[j] = gradient; });
  if (lane == 0) losses[i] = loss;
}

struct LossTerm {
  const double* losses;
  __device__ double operator()(int i) const { return losses[i]; }
};

}  // namespace

void softmax(int64_t n, int64_t classes, const float* x, float* p, cudaStream_t stream) {
  launch(softmax_kernel, dim3(static_cast<unsigned>(ceil_div(n, kRowsAtOnce))), dim3(kBlock), stream,
         static_cast<int>(n), static_cast<int>(classes), x, p);
}

void cross_entropy_rows(int64_t n, int64_t classes, const float* logits, const int64_t* labels,
                        float* dlogits, double* losses, cudaStream_t stream) {
  launch(cross_entropy_kernel, dim3(static_cast<unsigned>(ceil_div(n, kRowsAtOnce))), dim3(kBlock), stream,
         static_cast<int>(n), static_cast<int>(classes), logits, labels, dlogits, losses);
}

void softmax_cross_entropy(int64_t n, int64_t classes, const float* logits, const int64_t* labels,
                           float* dlogits, double* result, cudaStream_t stream) {
  Buffer<double> losses(n, stream);
  cross_entropy_rows(n, classes, logits, labels, dlogits, losses.get(), stream);
  sum_elements(n, LossTerm{losses.get()}, 1.0 / static_cast<double>(n), result, stream);
}

}  // namespace mnist100::cuda
