// ReLU and dropout, element by element; the compiler makes vectors of these loops.
#include "dropout.h"
#include "ops.h"
#include "philox_simd.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int64_t kGrain = 16384;  // 64 KiB of each array a chunk; a multiple of a Philox block's 4
typedef uint8_t Bytes __attribute__((vector_size(kVectorBytes)));

// The low bytes of the lanes of two vectors.
MNIST100_INLINE void store_bytes(uint8_t* to, UintVec a, UintVec b) {
  if constexpr (kLanes == 16) {  // AVX-512 narrows in one instruction, but has no byte shuffle across lanes
    typedef uint8_t Narrow __attribute__((vector_size(kLanes)));
    const Narrow narrow[2] = {__builtin_convertvector(a, Narrow), __builtin_convertvector(b, Narrow)};
    __builtin_memcpy(to, narrow, sizeof narrow);
  } else {
    const Bytes narrow = shuffled<[](int i) { return i < 2 * kLanes ? 4 * i : -1; }>(
        reinterpret_cast<Bytes>(a), reinterpret_cast<Bytes>(b));
    __builtin_memcpy(to, &narrow, 2 * kLanes);
  }
}

void dropout_range(int64_t begin, int64_t end, double p, Stream stream, const float* x, float* y,
                   uint8_t* mask) {
  constexpr int64_t kStep = Dropout::kStep;
  const Dropout dropout(p, stream);
  const auto step = [&](int64_t at, const float* from, float* to, uint8_t* kept_to) MNIST100_LAMBDA_INLINE {
    const Dropout::Kept kept = dropout.kept(at);
    for (int v = 0; v < 2; ++v)
      store(to + v * kLanes, masked(kept.at[v], load(from + v * kLanes) * dropout.scale));
    store_bytes(kept_to, kept.at[0] & 1, kept.at[1] & 1);
  };
  int64_t i = begin;
  for (; i + kStep <= end; i += kStep) step(i, x + i, y + i, mask + i);
  if (i == end) return;
  const size_t rest = static_cast<size_t>(end - i);
  float values[kStep] = {};
  uint8_t kept[kStep];
  __builtin_memcpy(values, x + i, rest * sizeof(float));
  step(i, values, values, kept);
  __builtin_memcpy(y + i, values, rest * sizeof(float));
  __builtin_memcpy(mask + i, kept, rest);
}

void relu_range(int64_t begin, int64_t end, const float* x, float* y) {
  for (int64_t i = begin; i < end; ++i) y[i] = x[i] < 0 ? 0 : x[i];
}

void relu_backward_range(int64_t begin, int64_t end, const float* dy, const float* y, float* dx) {
  for (int64_t i = begin; i < end; ++i) {
    const float g = dy[i];  // read whatever y is, or the loop has branches
    dx[i] = y[i] > 0 ? g : 0;
  }
}

void dropout_backward_range(int64_t begin, int64_t end, float scale, const float* dy, const uint8_t* mask,
                            float* dx) {
  for (int64_t i = begin; i < end; ++i) {
    const float scaled = dy[i] * scale;
    dx[i] = mask[i] ? scaled : 0;
  }
}

}  // namespace

void relu(int64_t size, const float* x, float* y, int threads) {
  parallel_ranges(size, kGrain, threads, [=](int64_t begin, int64_t end) { relu_range(begin, end, x, y); });
}

void relu_backward(int64_t size, const float* dy, const float* y, float* dx, int threads) {
  parallel_ranges(size, kGrain, threads,
                  [=](int64_t begin, int64_t end) { relu_backward_range(begin, end, dy, y, dx); });
}

void dropout(int64_t size, double p, Stream stream, const float* x, float* y, uint8_t* mask, int threads) {
  parallel_ranges(size, kGrain, threads,
                  [=](int64_t begin, int64_t end) { dropout_range(begin, end, p, stream, x, y, mask); });
}

void dropout_backward(int64_t size, double p, const float* dy, const uint8_t* mask, float* dx, int threads) {
  const float scale = static_cast<float>(1.0 / (1.0 - p));
  parallel_ranges(size, kGrain, threads, [=](int64_t begin, int64_t end) {
    dropout_backward_range(begin, end, scale, dy, mask, dx);
  });
}

}  // namespace mnist100::MNIST100_ISA
