// Every operation of kernels.h on arrays in the GPU's memory: the same equations, layouts and names, launched
// on a stream. What a CPU kernel returns is written to `*result` or `*valid` there. Where y is padded NHWC,
// conv_block, conv_same and batch_norm_relu leave its border as it is: the caller has it zero.
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

// A stream of random bits whose step may lie in the GPU's memory, where kernels of a graph find the present
// one.
struct Draws {
  uint64_t seed, step;
  const uint64_t* step_at = nullptr;
  Draws(Stream s) : seed(s.seed), step(s.step) {}  // implicit: what the operations of kernels.h pass
  Draws(uint64_t seed_, const uint64_t* step_at_) : seed(seed_), step(0), step_at(step_at_) {}
  __device__ Stream now() const { return {seed, step_at ? *step_at : step}; }
};

void gemm(const GemmShape&, float alpha, const float* a, const float* b, float beta, float* c, const Queue&);
void im2col(const Conv2dShape&, const float* x, float* cols, cudaStream_t);
void col2im(const Conv2dShape&, const float* cols, float* dx, cudaStream_t);
void conv2d(const Conv2dShape&, const float* x, const float* w, const float* b, float* y, const Queue&);
void conv2d_backward(const Conv2dShape&, const float* dy, const float* x, const float* w, float* dx,
                     float* dw, float* db, const Queue&);
void max_pool2d(const Pool2dShape&, const float* x, float* y, int32_t* argmax, cudaStream_t);
// *valid: 1, or 0 if an argmax lies outside its plane; those add nothing.
void max_pool2d_backward(const Pool2dShape&, const float* dy, const int32_t* argmax, float* dx,
                         int32_t* valid, cudaStream_t);
void pad_nhwc(const PaddedShape&, const float* x, float* y, cudaStream_t);
void unpad_nhwc(const PaddedShape&, const float* x, float* y, cudaStream_t);
void conv_block(const ConvBlockShape&, const float* x, const float* w, const float* b, float* y,
                uint8_t* argmax, const Queue&);
void conv_block_backward(const ConvBlockShape&, const float* dy, const float* x, const float* y,
                         const uint8_t* argmax, const float* w, float* dx, float* dw, float* db,
                         const Queue&);
void conv_same(const ConvSameShape&, const float* x, const float* w, const float* b, bool relu, float* y,
               const Queue&);
void conv_same_backward(const ConvSameShape&, const float* dy, const float* x, const float* y, const float* w,
                        float* dx, float* dw, float* db, const Queue&);
void batch_norm_stats(const PaddedShape&, const float* x, float* mean, float* var, cudaStream_t);
void batch_norm_relu(const BatchNormShape&, const float* x, const BatchNormParams<float>&, float* y,
                     uint8_t* argmax, cudaStream_t);
void batch_norm_relu_backward(const BatchNormShape&, const float* dy, const float* x, const uint8_t* argmax,
                              const BatchNormParams<float>&, float* dx, float* dgamma, float* dbeta,
                              cudaStream_t);
void split_halves(const PaddedShape&, const float* x, float* y, cudaStream_t);
void join_halves(const PaddedShape&, const float* y, float* x, cudaStream_t);
void pair_logits(int64_t n, int64_t k, const float* scores, float* logits, cudaStream_t);
void pair_logits_backward(int64_t n, int64_t k, const float* dlogits, float* dscores, cudaStream_t);
void linear(const LinearShape&, const float* x, const float* w, const float* b, float* y, const Queue&);
void linear_backward(const LinearShape&, const float* dy, const float* x, const float* w, float* dx,
                     float* dw, float* db, const Queue&);
void linear_block(const LinearShape&, double p, Draws, const float* x, const float* w, const float* b,
                  float* y, const Queue&);
void linear_block_backward(const LinearShape&, double p, const float* dy, const float* y, const float* x,
                           const float* w, float* dx, float* dw, float* db, const Queue&);
void relu(int64_t size, const float* x, float* y, cudaStream_t);
void relu_backward(int64_t size, const float* dy, const float* y, float* dx, cudaStream_t);
void dropout(int64_t size, double p, Draws, const float* x, float* y, uint8_t* mask, cudaStream_t);
void dropout_backward(int64_t size, double p, const float* dy, const uint8_t* mask, float* dx, cudaStream_t);
void softmax(int64_t n, int64_t classes, const float* x, float* p, cudaStream_t);
void softmax_cross_entropy(int64_t n, int64_t classes, const float* logits, const int64_t* labels,
                           float* dlogits, double* result, cudaStream_t);
void adam_step(int64_t size, const AdamParams&, float* param, const float* grad, float* m, float* v,
               cudaStream_t);
void sgd_step(int64_t size, const SgdParams&, float* param, const float* grad, float* velocity, cudaStream_t);
void ema_update(int64_t size, double decay, float* average, const float* param, cudaStream_t);
void sum_squares(int64_t size, const float* x, double* result, cudaStream_t);
void input_batch(int64_t n, const InputParams&, Draws, const uint8_t* digits, const int32_t* pairs,
                 const int64_t* samples, const float* mean, const float* inv_std, float* y, cudaStream_t);
void fma_rounds(int64_t size, int64_t rounds, float a, float b, float* y, cudaStream_t);

}  // namespace mnist100::cuda
