// ReLU and dropout, element by element; the compiler makes vectors of these loops.
#include "../philox.h"
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int64_t kGrain = 16384;  // 64 KiB of each array a chunk; a multiple of a Philox block's 4

}  // namespace

void relu(int64_t size, const float* x, float* y, int threads) {
  parallel_ranges(size, kGrain, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = x[i] < 0 ? 0 : x[i];
  });
}

void relu_backward(int64_t size, const float* dy, const float* y, float* dx, int threads) {
  parallel_ranges(size, kGrain, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) dx[i] = y[i] > 0 ? dy[i] : 0;
  });
}

void dropout(int64_t size, double p, Stream stream, const float* x, float* y, uint8_t* mask, int threads) {
  const float scale = static_cast<float>(1.0 / (1.0 - p));
  // bits >= p * 2^32 over the integers; p < 1, so the limit fits a word unless it rounds up to 2^32.
  const uint64_t limit = static_cast<uint64_t>(__builtin_ceil(p * 0x1p32));
  parallel_ranges(size, kGrain, threads, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += 4) {
      const Bits4 bits = philox(stream, kDropout, static_cast<uint64_t>(first / 4));
      for (int64_t i = first; i < min_of(end, first + 4); ++i) {
        mask[i] = bits.w[i - first] >= limit;
        y[i] = mask[i] ? x[i] * scale : 0;
      }
    }
  });
}

void dropout_backward(int64_t size, double p, const float* dy, const uint8_t* mask, float* dx, int threads) {
  const float scale = static_cast<float>(1.0 / (1.0 - p));
  parallel_ranges(size, kGrain, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) dx[i] = mask[i] ? dy[i] * scale : 0;
  });
}

}  // namespace mnist100::MNIST100_ISA
