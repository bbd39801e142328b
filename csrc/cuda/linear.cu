#include "linear_ops.cuh"
#include "philox.h"

namespace mnist100::cuda {
namespace {

struct BiasResult {
  const float* b;  // null: none
  float* y;
  int n;
  bool aligned;
  BiasResult(const float* b_, float* y_, int n_) : BiasResult(b_, y_, n_, n_ % 4 == 0 && is_aligned(y_)) {}
  __host__ __device__ BiasResult(const float* b_, float* y_, int n_, bool aligned_)
      : b(b_), y(y_), n(n_), aligned(aligned_) {}
  __device__ void operator()(int i, int rows, int j, int columns, const Sums& sums) const {
    float bias[4] = {};
    if (b) load_quad(b + j, false, columns, bias);
    MNIST100_UNROLL
    for (int r = 0; r < 4; ++r) {
      if (r >= rows) return;
      const float row[4] = {sums[0][r] + bias[0], sums[1][r] + bias[1], sums[2][r] + bias[2],
                            sums[3][r] + bias[3]};
      store_row(y + (i + r) * n + j, aligned, columns, row);
    }
  }
};

// Bias, ReLU and dropout while the sum is in a register.
struct BlockResult {
  BiasResult to;
  float scale;
  double threshold;  // 0: no dropout
  Draws random;
  __device__ void operator()(int i, int rows, int j, int columns, const Sums& sums) const {
    Sums values;
    MNIST100_UNROLL
    for (int c = 0; c < 4; ++c) MNIST100_UNROLL
    for (int r = 0; r < 4; ++r) values[c][r] = 0.0f;
    for (int r = 0; r < rows; ++r) {
      const int64_t first = static_cast<int64_t>(i + r) * to.n + j;
      Bits4 bits = {};
      for (int c = 0; c < columns; ++c) {
        float value = relu_of(sums[c][r] + to.b[j + c]);
        if (threshold > 0) {
          const int64_t at = first + c;
          if (c == 0 || at % 4 == 0) bits = philox(random.now(), kDropout, static_cast<uint64_t>(at / 4));
          value = static_cast<double>(bits.w[at % 4]) >= threshold ? value * scale : 0.0f;
        }
        values[c][r] = value;
      }
    }
    BiasResult(nullptr, to.y, to.n, to.aligned)(i, rows, j, columns, values);
  }
};

// Of weights (out,in), and in column `in` of the bias.
struct GradientResult {
  float *dw, *db;
  int in;
  bool aligned;
  GradientResult(float* dw_, float* db_, int in_)
      : dw(dw_), db(db_), in(in_), aligned(in_ % 4 == 0 && is_aligned(dw_)) {}
  __device__ void operator()(int i, int rows, int j, int columns, const Sums& sums) const {
    const int inside = in - j < columns ? in - j : columns;
    MNIST100_UNROLL
    for (int r = 0; r < 4; ++r) {
      if (r >= rows) return;
      const float row[4] = {sums[0][r], sums[1][r], sums[2][r], sums[3][r]};
      store_row(dw + (i + r) * in + j, aligned, inside, row);
      MNIST100_UNROLL
      for (int c = 0; c < 4; ++c)
        if (c == inside && c < columns) db[i + r] = row[c];
    }
  }
};

template <class Result>
void multiply_linear(const LinearShape& s, const float* x, const float* w, Result result,
                     const Queue& queue) {
  const int in = static_cast<int>(s.in);
  multiply<Square>(static_cast<int>(s.n), static_cast<int>(s.out), in, Rows<true>(x, in), Rows<true>(w, in),
                   result, queue);
}

float dropout_scale(double p) { return static_cast<float>(1.0 / (1.0 - p)); }

}  // namespace

void linear(const LinearShape& s, const float* x, const float* w, const float* b, float* y,
            const Queue& queue) {
  multiply_linear(s, x, w, BiasResult(b, y, static_cast<int>(s.out)), queue);
}

void linear_input_gradient(const LinearShape& s, const float* dy, const LinearMask& mask, const float* w,
                           float* dx, const Queue& queue) {
  const int in = static_cast<int>(s.in), out = static_cast<int>(s.out);
  multiply<Square>(static_cast<int>(s.n), in, out,
                   MaskedRows<true>(dy, mask.y, static_cast<float>(mask.scale), out), Rows<false>(w, in),
                   BiasResult(nullptr, dx, in), queue);
}

void linear_weight_gradient(const LinearShape& s, const float* dy, const LinearMask& mask, const float* x,
                            float* dw, float* db, const Queue& queue) {
  const int in = static_cast<int>(s.in), out = static_cast<int>(s.out);
  multiply<Square>(out, in + (db ? 1 : 0), static_cast<int>(s.n),
                   MaskedRows<false>(dy, mask.y, static_cast<float>(mask.scale), out), RowsAndOnes(x, in),
                   GradientResult(dw, db, in), queue);
}

void linear_block(const LinearShape& s, double p, Draws random, const float* x, const float* w,
                  const float* b, float* y, const Queue& queue) {
  multiply_linear(
      s, x, w, BlockResult{BiasResult(b, y, static_cast<int>(s.out)), dropout_scale(p), p * 0x1p32, random},
      queue);
}

LinearMask LinearMask::of_block(double p, const float* y) { return {y, dropout_scale(p)}; }

}  // namespace mnist100::cuda
