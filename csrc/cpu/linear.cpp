// Fully connected layer: three products.
#include "ops.h"

namespace mnist100::MNIST100_ISA {

void linear(const LinearShape& s, const float* x, const float* w, const float* b, float* y, int threads) {
  if (b)
    parallel_ranges(s.n, 64, threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        __builtin_memcpy(y + i * s.out, b, sizeof(float) * static_cast<size_t>(s.out));
    });
  // y (n,out) = x (n,in) w^T (in,out)
  product_parallel({s.n, s.out, s.in, 1, {x, s.in, 1}, {w, 1, s.in}, b ? 1.0f : 0.0f, y, s.out}, threads);
}

void linear_backward(const LinearShape& s, const float* dy, const float* x, const float* w, float* dx,
                     float* dw, float* db, int threads) {
  // dx (n,in) = dy (n,out) w (out,in)
  if (dx) product_parallel({s.n, s.in, s.out, 1, {dy, s.out, 1}, {w, s.in, 1}, 0, dx, s.in}, threads);
  // dw (out,in) = dy^T (out,n) x (n,in)
  product_parallel({s.out, s.in, s.n, 1, {dy, 1, s.out}, {x, s.in, 1}, 0, dw, s.in}, threads);
  if (!db) return;
  parallel_ranges(s.out, 64, threads, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) db[j] = 0;
    for (int64_t i = 0; i < s.n; ++i)
      for (int64_t j = begin; j < end; ++j) db[j] += dy[i * s.out + j];
  });
}

}  // namespace mnist100::MNIST100_ISA
