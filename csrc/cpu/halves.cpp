// A pair of digits as two samples, and the scores of its two digits as logits of the pair.
#include "ops.h"
#include "transpose.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int64_t kGrain = 64;  // pairs a chunk of logits

// First element of a half in x (n,c,h,2w).
int64_t half_at(const PaddedShape& s, int64_t half) {
  return half / 2 * s.c * s.h * 2 * s.w + half % 2 * s.w;
}

}  // namespace

void split_halves(const PaddedShape& s, const float* x, float* y, int threads) {
  parallel_for(s.n, threads, [&](int64_t half, int) {
    zero_border(s, y + half * s.sample());
    for (int64_t iy = 0; iy < s.h; ++iy)
      transpose_matrix(s.c, s.w, x + half_at(s, half) + iy * 2 * s.w, s.h * 2 * s.w, y + s.at(half, iy, 0),
                       s.c);
  });
}

void join_halves(const PaddedShape& s, const float* y, float* x, int threads) {
  parallel_for(s.n, threads, [&](int64_t half, int) {
    for (int64_t iy = 0; iy < s.h; ++iy)
      transpose_matrix(s.w, s.c, y + s.at(half, iy, 0), s.c, x + half_at(s, half) + iy * 2 * s.w,
                       s.h * 2 * s.w);
  });
}

void pair_logits(int64_t n, int64_t k, const float* scores, float* logits, int threads) {
  parallel_ranges(n, kGrain, threads, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* left = scores + 2 * i * k;
      const float* right = left + k;
      for (int64_t a = 0; a < k; ++a)
        for (int64_t b = 0; b < k; ++b) logits[(i * k + a) * k + b] = left[a] + right[b];
    }
  });
}

void pair_logits_backward(int64_t n, int64_t k, const float* dlogits, float* dscores, int threads) {
  parallel_ranges(n, kGrain, threads, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* left = dscores + 2 * i * k;
      float* right = left + k;
      __builtin_memset(right, 0, sizeof(float) * static_cast<size_t>(k));
      for (int64_t a = 0; a < k; ++a) {
        const float* row = dlogits + (i * k + a) * k;
        float sum = 0;
        for (int64_t b = 0; b < k; ++b) {
          sum += row[b];
          right[b] += row[b];
        }
        left[a] = sum;
      }
    }
  });
}

}  // namespace mnist100::MNIST100_ISA
