// Softmax and its cross-entropy, a row at a time.
#include "exp.h"
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int64_t kGrain = 16;  // rows a chunk

// A row in vectors, its last one filled up with -inf: neither maximum nor sum of exponentials notices.
MNIST100_INLINE Vec load_logits(const float* row, int64_t classes, int64_t j) {
  if (j + kLanes <= classes) return load(row + j);
  Vec v = splat(-__builtin_inff());
  __builtin_memcpy(&v, row + j, sizeof(float) * static_cast<size_t>(classes - j));
  return v;
}

MNIST100_INLINE void store_part(float* out, int64_t classes, int64_t j, Vec v) {
  if (j + kLanes <= classes)
    store(out + j, v);
  else
    __builtin_memcpy(out + j, &v, sizeof(float) * static_cast<size_t>(classes - j));
}

float row_max(const float* row, int64_t classes) {
  Vec largest = load_logits(row, classes, 0);
  for (int64_t j = kLanes; j < classes; j += kLanes) {
    const Vec v = load_logits(row, classes, j);
    largest = v > largest ? v : largest;
  }
  float most = largest[0];
  for (int i = 1; i < kLanes; ++i) most = largest[i] > most ? largest[i] : most;
  return most;
}

// out = exp(row - largest); returns the sum. A NaN anywhere makes the sum one.
float exponentials(const float* row, int64_t classes, float largest, float* out) {
  Vec sums = {};
  for (int64_t j = 0; j < classes; j += kLanes) {
    const Vec e = exp_of_negative(load_logits(row, classes, j) - largest);
    store_part(out, classes, j, e);
    sums += e;
  }
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += sums[i];
  return sum;
}

void scale_row(int64_t classes, float factor, float* row) {
  for (int64_t j = 0; j < classes; ++j) row[j] *= factor;
}

}  // namespace

void softmax(int64_t n, int64_t classes, const float* x, float* p, int threads) {
  parallel_ranges(n, kGrain, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* out = p + i * classes;
      const float scale = 1 / exponentials(x + i * classes, classes, row_max(x + i * classes, classes), out);
      scale_row(classes, scale, out);
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
      scale_row(classes, scale, out);
      out[labels[i]] -= 1 / static_cast<float>(n);
    }
  });
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += losses[i];
  return total / static_cast<double>(n);
}

}  // namespace mnist100::MNIST100_ISA
