// Parameter updates; the compiler makes vectors of these loops.
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int64_t kGrain = 16384;  // four arrays of 64 KiB a chunk

}  // namespace

void adam_step(int64_t size, const AdamParams& a, float* param, const float* grad, float* m, float* v,
               int threads) {
  const double step = static_cast<double>(a.step);
  // lr * (m / c1) / (sqrt(v / c2) + eps) = rate * m / (sqrt(v) * root + eps)
  const float rate = static_cast<float>(a.lr / (1.0 - __builtin_pow(a.beta1, step)));
  const float root = static_cast<float>(1.0 / __builtin_sqrt(1.0 - __builtin_pow(a.beta2, step)));
  const float beta1 = static_cast<float>(a.beta1), gain1 = static_cast<float>(1.0 - a.beta1);
  const float beta2 = static_cast<float>(a.beta2), gain2 = static_cast<float>(1.0 - a.beta2);
  const float eps = static_cast<float>(a.eps), l2 = static_cast<float>(a.l2);
  parallel_ranges(size, kGrain, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float g = grad[i] + l2 * param[i];
      m[i] = beta1 * m[i] + gain1 * g;
      v[i] = beta2 * v[i] + gain2 * g * g;
      param[i] -= rate * m[i] / (__builtin_sqrtf(v[i]) * root + eps);
    }
  });
}

void sgd_step(int64_t size, const SgdParams& a, float* param, const float* grad, float* velocity,
              int threads) {
  const float lr = static_cast<float>(a.lr), momentum = static_cast<float>(a.momentum);
  const float l2 = static_cast<float>(a.l2);
  parallel_ranges(size, kGrain, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      velocity[i] = momentum * velocity[i] + grad[i] + l2 * param[i];
      param[i] -= lr * velocity[i];
    }
  });
}

void ema_update(int64_t size, double decay, float* average, const float* param, int threads) {
  const float gain = static_cast<float>(1.0 - decay);
  parallel_ranges(size, kGrain, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) average[i] += gain * (param[i] - average[i]);
  });
}

double sum_squares(int64_t size, const float* x, int threads) {
  const int64_t chunks = ceil_div(size, kGrain);
  double* parts = static_cast<double*>(scratch(sizeof(double) * static_cast<size_t>(chunks)));
  parallel_for(chunks, threads, [&](int64_t chunk, int) {
    double lanes[8] = {};
    const int64_t end = min_of(size, (chunk + 1) * kGrain);
    for (int64_t i = chunk * kGrain; i < end; ++i)
      lanes[i % 8] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    double sum = 0;
    for (double lane : lanes) sum += lane;
    parts[chunk] = sum;
  });
  double total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += parts[chunk];
  return total;
}

}  // namespace mnist100::MNIST100_ISA
