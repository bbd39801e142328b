#include "adam.cuh"
#include "ops.cuh"
#include "reduce.cuh"

namespace mnist100::cuda {
namespace {

__global__ void adam_kernel(int size, AdamFactors f, float* param, const float* grad, float* m, float* v) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  adam_element(f, grad[i], param[i], m[i], v[i]);
}

__global__ void sgd_kernel(int size, float lr, float momentum, float l2, float* param, const float* grad,
                           float* velocity) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  const float v = momentum * velocity[i] + grad[i] + l2 * param[i];
  velocity[i] = v;
  param[i] -= lr * v;
}

__global__ void ema_kernel(int size, float gain, float* average, const float* param) {
  await_previous();
  const int i = element();
  if (i < size) average[i] += gain * (param[i] - average[i]);
}

struct SquareTerm {
  const float* x;
  __device__ double operator()(int i) const { return static_cast<double>(x[i]) * static_cast<double>(x[i]); }
};

}  // namespace

void adam_step(int64_t size, const AdamParams& a, float* param, const float* grad, float* m, float* v,
               cudaStream_t stream) {
  launch_elements(adam_kernel, size, stream, static_cast<int>(size), adam_factors(a), param, grad, m, v);
}

void sgd_step(int64_t size, const SgdParams& a, float* param, const float* grad, float* velocity,
              cudaStream_t stream) {
  launch_elements(sgd_kernel, size, stream, static_cast<int>(size), static_cast<float>(a.lr),
                  static_cast<float>(a.momentum), static_cast<float>(a.l2), param, grad, velocity);
}

void ema_update(int64_t size, double decay, float* average, const float* param, cudaStream_t stream) {
  launch_elements(ema_kernel, size, stream, static_cast<int>(size), static_cast<float>(1.0 - decay), average,
                  param);
}

void sum_squares(int64_t size, const float* x, double* result, cudaStream_t stream) {
  sum_elements(size, SquareTerm{x}, 1.0, result, stream);
}

}  // namespace mnist100::cuda
