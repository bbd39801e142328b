// The cross-entropy of a row of logits, by a warp.
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

// exp(x) without results below the smallest normal number, as on the CPU; expf alone is off by 2 ulp.
__device__ inline float exp_normal(float x) {
  return x < -87.3365448f ? 0.0f : static_cast<float>(exp(static_cast<double>(x)));
}

__device__ inline float row_max(int lane, int classes, const float* row) {
  float largest = row[0];
  for (int j = lane; j < classes; j += kWarp) largest = row[j] > largest ? row[j] : largest;
  return warp_max(largest);
}

constexpr int kKept = 4;  // exponentials of a lane that are kept, of 128 classes; more are computed again

// Returns the loss; put(j, gradient at the logit) for each class, times `share`.
template <class Put>
__device__ double cross_entropy_row(int lane, int classes, const float* row, int label, float share,
                                    const Put& put) {
  const float largest = row_max(lane, classes, row);
  float kept[kKept];
  double sum = 0;
  MNIST100_UNROLL
  for (int at = 0; at < kKept; ++at) {
    const int j = lane + at * kWarp;
    kept[at] = j < classes ? exp_normal(row[j] - largest) : 0.0f;
    sum += static_cast<double>(kept[at]);
  }
  // In double, as many classes of nearly no probability would vanish beside one.
  for (int j = lane + kKept * kWarp; j < classes; j += kWarp)
    sum += static_cast<double>(exp_normal(row[j] - largest));
  sum = warp_sum(sum);
  const float scale = static_cast<float>(1.0 / sum);
  const auto gradient = [=](int j, float exponential) {
    return (exponential * scale - (j == label ? 1.0f : 0.0f)) * share;
  };
  MNIST100_UNROLL
  for (int at = 0; at < kKept; ++at) {
    const int j = lane + at * kWarp;
    if (j < classes) put(j, gradient(j, kept[at]));
  }
  for (int j = lane + kKept * kWarp; j < classes; j += kWarp)
    put(j, gradient(j, exp_normal(row[j] - largest)));
  return log(sum) + (static_cast<double>(largest) - static_cast<double>(row[label]));
}

}  // namespace mnist100::cuda
