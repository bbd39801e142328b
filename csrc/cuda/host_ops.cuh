// The operations of kernels.h for arrays in the CPU's memory: every call copies them to the GPU and back.
// They hold the kernels to the contract; what trains on the GPU keeps its arrays there and calls ops.cuh.
#pragma once

#include "kernels.h"
#include "precision.h"

namespace mnist100::cuda::host {

// Elements of the arrays.
inline int64_t images(const Conv2dShape& s) { return s.n * s.c * s.h * s.w; }
inline int64_t padded(const PaddedShape& s) { return s.n * s.sample(); }
inline int64_t interior(const PaddedShape& s) { return s.count() * s.c; }

template <class F>
struct Pointee;
template <class F>
struct Pointee<F*> {
  using Type = F;
};

#define MNIST100_DECLARE(op) Pointee<decltype(Kernels<float>::op)>::Type op
MNIST100_DECLARE(im2col);
MNIST100_DECLARE(col2im);
MNIST100_DECLARE(max_pool2d);
MNIST100_DECLARE(max_pool2d_backward);
MNIST100_DECLARE(pad_nhwc);
MNIST100_DECLARE(unpad_nhwc);
MNIST100_DECLARE(batch_norm_stats);
MNIST100_DECLARE(batch_norm_relu);
MNIST100_DECLARE(batch_norm_relu_backward);
MNIST100_DECLARE(split_halves);
MNIST100_DECLARE(join_halves);
MNIST100_DECLARE(pair_logits);
MNIST100_DECLARE(pair_logits_backward);
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

// What multiplies, by the precision of its products.
template <Precision P>
struct Products {
#define MNIST100_DECLARE(op) static Pointee<decltype(Kernels<float>::op)>::Type op
  MNIST100_DECLARE(gemm);
  MNIST100_DECLARE(conv2d);
  MNIST100_DECLARE(conv2d_backward);
  MNIST100_DECLARE(conv_block);
  MNIST100_DECLARE(conv_block_backward);
  MNIST100_DECLARE(conv_same);
  MNIST100_DECLARE(conv_same_backward);
  MNIST100_DECLARE(linear);
  MNIST100_DECLARE(linear_backward);
  MNIST100_DECLARE(linear_block);
  MNIST100_DECLARE(linear_block_backward);
#undef MNIST100_DECLARE
};

}  // namespace mnist100::cuda::host
