// Softmax and its cross-entropy, a row at a time.
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int64_t kGrain = 16;  // rows a chunk

float row_max(const float* row, int64_t classes) {
  float largest = row[0];
  for (int64_t j = 1; j < classes; ++j) largest = row[j] > largest ? row[j] : largest;
  return largest;
}

// out = exp(row - max); returns the sum.
float exponentials(const float* row, int64_t classes, float largest, float* out) {
  float sum = 0;
  for (int64_t j = 0; j < classes; ++j) {
    out[j] = __builtin_expf(row[j] - largest);
    sum += out[j];
  }
  return sum;
}

}  // namespace

void softmax(int64_t n, int64_t classes, const float* x, float* p, int threads) {
  parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* out = p + i * classes;
      const float scale = 1 / exponentials(x + i * classes, classes, row_max(x + i * classes, classes), out);
      for (int64_t j = 0; j < classes; ++j) out[j] *= scale;
    }
  });
}

double softmax_cross_entropy(int64_t n, int64_t classes, const float* logits, const int64_t* labels,
                             float* dlogits, int threads) {
  double* losses = static_cast<double*>(scratch(sizeof(double) * static_cast<size_t>(n)));
  parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* row = logits + i * classes;
      float* out = dlogits + i * classes;
      const float largest = row_max(row, classes);
      const float sum = exponentials(row, classes, largest, out);
      losses[i] = __builtin_log(static_cast<double>(sum)) +
                  (static_cast<double>(largest) - static_cast<double>(row[labels[i]]));
      const float scale = 1 / (sum * static_cast<float>(n));
      for (int64_t j = 0; j < classes; ++j) out[j] *= scale;
      out[labels[i]] -= 1 / static_cast<float>(n);
    }
  });
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += losses[i];
  return total / static_cast<double>(n);
}

}  // namespace mnist100::MNIST100_ISA
