// The functions that fill this instruction set's table, declared with the types kernels.h gives them,
// and the matrix product that other kernels build on.
#pragma once

#include "simd.h"

namespace mnist100::MNIST100_ISA {

template <class F>
struct Pointee;
template <class F>
struct Pointee<F*> {
  using Type = F;
};

#define MNIST100_DECLARE(op) Pointee<decltype(Kernels<float>::op)>::Type op
MNIST100_DECLARE(gemm);
MNIST100_DECLARE(im2col);
MNIST100_DECLARE(col2im);
MNIST100_DECLARE(conv2d);
MNIST100_DECLARE(conv2d_backward);
MNIST100_DECLARE(max_pool2d);
MNIST100_DECLARE(max_pool2d_backward);
MNIST100_DECLARE(pad_nhwc);
MNIST100_DECLARE(unpad_nhwc);
MNIST100_DECLARE(conv_block);
MNIST100_DECLARE(conv_block_backward);
MNIST100_DECLARE(conv_same);
MNIST100_DECLARE(conv_same_backward);
MNIST100_DECLARE(batch_norm_stats);
MNIST100_DECLARE(batch_norm_relu);
MNIST100_DECLARE(batch_norm_relu_backward);
MNIST100_DECLARE(split_halves);
MNIST100_DECLARE(join_halves);
MNIST100_DECLARE(pair_logits);
MNIST100_DECLARE(pair_logits_backward);
MNIST100_DECLARE(linear);
MNIST100_DECLARE(linear_backward);
MNIST100_DECLARE(linear_block);
MNIST100_DECLARE(linear_block_backward);
MNIST100_DECLARE(relu);
MNIST100_DECLARE(relu_backward);
MNIST100_DECLARE(dropout);
MNIST100_DECLARE(dropout_backward);
MNIST100_DECLARE(softmax);
MNIST100_DECLARE(softmax_cross_entropy);
MNIST100_DECLARE(adam_step);
MNIST100_DECLARE(sgd_step);
MNIST100_DECLARE(ema_update);
MNIST100_DECLARE(sum_squares);
MNIST100_DECLARE(input_batch);
MNIST100_DECLARE(fma_rounds);
#undef MNIST100_DECLARE

// A matrix whose element (i, j) is at[i * rows + j * cols]; one of the strides is 1.
struct Matrix {
  const float* at;
  int64_t rows, cols;
};

// C (m,n), rows ldc apart, = alpha * A B + beta * C; A (m,k), B (k,n). beta == 0 overwrites.
struct Product {
  int64_t m, n, k;
  float alpha;
  Matrix a, b;
  float beta;
  float* c;
  int64_t ldc;
};

// Floats of scratch that a product's packed block needs, whatever the size; a multiple of a cache line.
int64_t product_scratch();
void product_serial(const Product& p, float* packed);
// Takes its scratch from scratch().
void product_parallel(const Product& p, int threads);

// C cut into tasks of rows x cols, from the shape alone.
struct Span {
  int64_t row0, row1, col0, col1;
};
struct Tasks {
  int64_t m, n, rows, cols;
  MNIST100_INLINE int64_t count() const { return ceil_div(m, rows) * ceil_div(n, cols); }
  MNIST100_INLINE Span at(int64_t i) const {
    const int64_t row = i % ceil_div(m, rows) * rows, col = i / ceil_div(m, rows) * cols;
    return {row, min_of(m, row + rows), col, min_of(n, col + cols)};
  }
};
Tasks product_tasks(const Product& p);
void product_block(const Product& p, const Span& s, float* packed);

// One sample of im2col and col2im: x (c,h,w) <-> cols (oh*ow, c*kh*kw). Both overwrite.
void im2col_sample(const Conv2dShape& s, const float* x, float* cols, float* scratch_block);
void col2im_sample(const Conv2dShape& s, const float* cols, float* dx, float* scratch_block);
// Floats of scratch that they need; a multiple of a cache line.
int64_t columns_scratch(const Conv2dShape& s);

// The border of one padded sample.
MNIST100_INLINE void zero_border(const PaddedShape& s, float* sample) {
  const size_t band = sizeof(float) * static_cast<size_t>(s.bh * s.row());
  const size_t side = sizeof(float) * static_cast<size_t>(s.bw * s.c);
  __builtin_memset(sample, 0, band);
  for (int64_t y = 0; y < s.h; ++y) {
    __builtin_memset(sample + s.at(0, y, 0) - s.bw * s.c, 0, side);
    __builtin_memset(sample + s.at(0, y, s.w), 0, side);
  }
  __builtin_memset(sample + (s.bh + s.h) * s.row(), 0, band);
}

// One sample of pad_nhwc and unpad_nhwc.
void pad_sample(const PaddedShape& s, const float* x, float* y);
void unpad_sample(const PaddedShape& s, const float* x, float* y);

// out[i] = sum over chunks, in order, of partial[chunk * size + i].
void sum_partials(int64_t size, int64_t chunks, const float* partial, float* out, int threads);

}  // namespace mnist100::MNIST100_ISA
