#include "linear_ops.cuh"
#include "philox.h"

namespace mnist100::cuda {
namespace {

struct BiasResult {
  const float* b;  // null: none
  float* y;
  int n;
  __device__ void operator()(int i, int rows, int j, const float (&sums)[4]) const {
    const float bias = b ? b[j] : 0.0f;
    for (int r = 0; r < rows; ++r) y[static_cast<int64_t>(i + r) * n + j] = sums[r] + bias;
  }
};

// Bias, ReLU and dropout while the sum is in a register.
struct BlockResult {
  const float* b;
  float* y;
  int n;
  float scale;
  double threshold;  // 0: no dropout
  Draws random;
  __device__ void operator()(int i, int rows, int j, const float (&sums)[4]) const {
    for (int r = 0; r < rows; ++r) {
      const int64_t at = static_cast<int64_t>(i + r) * n + j;
      float value = relu_of(sums[r] + b[j]);
      if (threshold > 0) {
        const Bits4 bits = philox(random.now(), kDropout, static_cast<uint64_t>(at / 4));
        value = static_cast<double>(bits.w[at % 4]) >= threshold ? value * scale : 0.0f;
      }
      y[at] = value;
    }
  }
};

// Column sums of dy (n,out), a block for 32 columns: eight threads a column, each every eighth row.
__global__ void column_sums(int n, int out, const float* dy, float* db) {
  __shared__ float parts[kBlock / kWarp][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, part = static_cast<int>(threadIdx.x) / kWarp;
  const int column = static_cast<int>(blockIdx.x) * kWarp + lane;
  float sum = 0;
  if (column < out)
    for (int i = part; i < n; i += kBlock / kWarp) sum += dy[static_cast<int64_t>(i) * out + column];
  parts[part][lane] = sum;
  __syncthreads();
  if (part > 0 || column >= out) return;
  for (int p = 1; p < kBlock / kWarp; ++p) sum += parts[p][lane];
  db[column] = sum;
}

__global__ void mask_gradient(int size, float scale, const float* dy, const float* y, float* d) {
  const int i = element();
  if (i < size) d[i] = y[i] > 0.0f ? dy[i] * scale : 0.0f;
}

template <class Result>
void multiply_linear(const LinearShape& s, const float* x, const float* w, Result result,
                     const Queue& queue) {
  const int in = static_cast<int>(s.in);
  multiply(static_cast<int>(s.n), static_cast<int>(s.out), in, Rows<true>{x, in}, Rows<true>{w, in}, result,
           queue);
}

float dropout_scale(double p) { return static_cast<float>(1.0 / (1.0 - p)); }

}  // namespace

void linear(const LinearShape& s, const float* x, const float* w, const float* b, float* y,
            const Queue& queue) {
  multiply_linear(s, x, w, BiasResult{b, y, static_cast<int>(s.out)}, queue);
}

void linear_backward(const LinearShape& s, const float* dy, const float* x, const float* w, float* dx,
                     float* dw, float* db, const Queue& queue) {
  if (dx) gemm({s.n, s.in, s.out, false, false}, 1.0f, dy, w, 0.0f, dx, queue);
  gemm({s.out, s.in, s.n, true, false}, 1.0f, dy, x, 0.0f, dw, queue);
  if (!db) return;
  launch(column_sums, dim3(static_cast<unsigned>(ceil_div(s.out, kWarp))), dim3(kBlock), queue,
         static_cast<int>(s.n), static_cast<int>(s.out), dy, db);
}

void linear_block(const LinearShape& s, double p, Draws random, const float* x, const float* w,
                  const float* b, float* y, const Queue& queue) {
  multiply_linear(s, x, w, BlockResult{b, y, static_cast<int>(s.out), dropout_scale(p), p * 0x1p32, random},
                  queue);
}

void linear_block_backward(const LinearShape& s, double p, const float* dy, const float* y, const float* x,
                           const float* w, float* dx, float* dw, float* db, const Queue& queue) {
  const int64_t size = s.n * s.out;
  Buffer<float> d(size, queue);
  launch_elements(mask_gradient, size, queue, static_cast<int>(size), dropout_scale(p), dy, y, d.get());
  linear_backward(s, d.get(), x, w, dx, dw, db, queue);
}

}  // namespace mnist100::cuda
