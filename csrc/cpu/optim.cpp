// Parameter updates; the compiler makes vectors of these loops.
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int64_t kGrain = 16384;  // four arrays of 64 KiB a chunk

// In single precision: lr * (m / c1) / (sqrt(v / c2) + eps) = rate * m / (sqrt(v) * root + eps), and
// param - lr * decay * param = kept * param.
struct AdamFactors {
  float rate, root, beta1, gain1, beta2, gain2, eps, l2, kept;

  explicit AdamFactors(const AdamParams& a)
      : rate(static_cast<float>(a.lr / (1.0 - __builtin_pow(a.beta1, static_cast<double>(a.step))))),
        root(static_cast<float>(1.0 /
                                __builtin_sqrt(1.0 - __builtin_pow(a.beta2, static_cast<double>(a.step))))),
        beta1(static_cast<float>(a.beta1)),
        gain1(static_cast<float>(1.0 - a.beta1)),
        beta2(static_cast<float>(a.beta2)),
        gain2(static_cast<float>(1.0 - a.beta2)),
        eps(static_cast<float>(a.eps)),
        l2(static_cast<float>(a.l2)),
        kept(static_cast<float>(1.0 - a.lr * a.decay)) {}
};

// Factors come by value, so that no store could change them.
void adam_range(int64_t begin, int64_t end, const AdamFactors f, float* __restrict__ param,
                const float* __restrict__ grad, float* __restrict__ m, float* __restrict__ v) {
  for (int64_t i = begin; i < end; ++i) {
    const float g = grad[i] + f.l2 * param[i];
    m[i] = f.beta1 * m[i] + f.gain1 * g;
    v[i] = f.beta2 * v[i] + f.gain2 * g * g;
    param[i] = f.kept * param[i] - f.rate * m[i] / (__builtin_sqrtf(v[i]) * f.root + f.eps);
  }
}

void sgd_range(int64_t begin, int64_t end, float lr, float momentum, float l2, float* __restrict__ param,
               const float* __restrict__ grad, float* __restrict__ velocity) {
  for (int64_t i = begin; i < end; ++i) {
    velocity[i] = momentum * velocity[i] + grad[i] + l2 * param[i];
    param[i] -= lr * velocity[i];
  }
}

void ema_range(int64_t begin, int64_t end, float gain, float* __restrict__ average,
               const float* __restrict__ param) {
  for (int64_t i = begin; i < end; ++i) average[i] += gain * (param[i] - average[i]);
}

double sum_squares_of(int64_t size, const float* x) {
  typedef float Half __attribute__((vector_size(kVectorBytes / 2)));
  typedef double Doubles __attribute__((vector_size(kVectorBytes)));
  constexpr int kHalf = kLanes / 2, kSums = 4;  // additions take four cycles
  Doubles sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kHalf <= size; i += kSums * kHalf)
    for (int j = 0; j < kSums; ++j) {
      Half half;
      __builtin_memcpy(&half, x + i + j * kHalf, sizeof half);
      const Doubles wide = __builtin_convertvector(half, Doubles);
      sums[j] += wide * wide;
    }
  double total = 0;
  for (; i < size; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const Doubles sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  for (int j = 0; j < kHalf; ++j) total += sum[j];
  return total;
}

}  // namespace

void adam_step(int64_t size, const AdamParams& a, float* param, const float* grad, float* m, float* v,
               int threads) {
  const AdamFactors factors(a);
  parallel_ranges(size, kGrain, threads,
                  [=](int64_t begin, int64_t end) { adam_range(begin, end, factors, param, grad, m, v); });
}

void sgd_step(int64_t size, const SgdParams& a, float* param, const float* grad, float* velocity,
              int threads) {
  const float lr = static_cast<float>(a.lr), momentum = static_cast<float>(a.momentum);
  const float l2 = static_cast<float>(a.l2);
  parallel_ranges(size, kGrain, threads, [=](int64_t begin, int64_t end) {
    sgd_range(begin, end, lr, momentum, l2, param, grad, velocity);
  });
}

void ema_update(int64_t size, double decay, float* average, const float* param, int threads) {
  const float gain = static_cast<float>(1.0 - decay);
  parallel_ranges(size, kGrain, threads,
                  [=](int64_t begin, int64_t end) { ema_range(begin, end, gain, average, param); });
}

double sum_squares(int64_t size, const float* x, int threads) {
  const int64_t chunks = ceil_div(size, kGrain);
  double* parts = static_cast<double*>(scratch(sizeof(double) * static_cast<size_t>(chunks)));
  parallel_ranges(size, kGrain, threads, [=](int64_t begin, int64_t end) {
    parts[begin / kGrain] = sum_squares_of(end - begin, x + begin);
  });
  double total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += parts[chunk];
  return total;
}

}  // namespace mnist100::MNIST100_ISA
