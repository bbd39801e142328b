// Adam in single precision: lr * (m / c1) / (sqrt(v / c2) + eps) = rate * m / (sqrt(v) * root + eps), and
// param - lr * decay * param = kept * param.
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

struct AdamFactors {
  float rate, root, beta1, gain1, beta2, gain2, eps, l2, kept;
};

MNIST100_HOST_DEVICE inline AdamFactors adam_factors(const AdamParams& a) {
  const double step = static_cast<double>(a.step);
  return {static_cast<float>(a.lr / (1.0 - pow(a.beta1, step))),
          static_cast<float>(1.0 / sqrt(1.0 - pow(a.beta2, step))),
          static_cast<float>(a.beta1),
          static_cast<float>(1.0 - a.beta1),
          static_cast<float>(a.beta2),
          static_cast<float>(1.0 - a.beta2),
          static_cast<float>(a.eps),
          static_cast<float>(a.l2),
          static_cast<float>(1.0 - a.lr * a.decay)};
}

__device__ inline void adam_element(const AdamFactors& f, float grad, float& param, float& m, float& v) {
  const float g = grad + f.l2 * param;
  m = f.beta1 * m + f.gain1 * g;
  v = f.beta2 * v + f.gain2 * g * g;
  param = f.kept * param - f.rate * m / (sqrtf(v) * f.root + f.eps);
}

}  // namespace mnist100::cuda
