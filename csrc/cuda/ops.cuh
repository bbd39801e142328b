// Every operation of kernels.h on arrays in the GPU's memory: the same equations, layouts and names, launched
// on a stream. What a CPU kernel returns is written to `*result` or `*valid` there. Where y is padded NHWC,
// conv_block, conv_same and batch_norm_relu leave its border as it is: the caller has it zero.
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

// The number of a step: one in the GPU's memory, where kernels of a graph find that of its first, if there is
// one, and the steps since.
struct StepNumber {
  const uint64_t* at;
  uint64_t since = 0;
  __device__ uint64_t now() const { return (at ? *at : 0) + since; }
};

// A stream of random bits.
struct Draws {
  uint64_t seed;
  StepNumber step;
  Draws(Stream s) : seed(s.seed), step{nullptr, s.step} {}  // implicit: what the operations of kernels.h pass
  Draws(uint64_t seed_, const StepNumber& step_) : seed(seed_), step(step_) {}
  __device__ Stream now() const { return {seed, step.now()}; }
};

// Where element (image, row, column, channel) of a result lies.
struct PooledPlaces {
  int first, image, row, column, channel;
  __device__ int at(int n, int y, int x, int c) const {
    return first + n * image + y * row + x * column + c * channel;
  }
  // Whether four channels that follow one another lie as they do, and as 16 bytes want them.
  bool is_in_fours() const {
    return channel == 1 && first % 4 == 0 && image % 4 == 0 && row % 4 == 0 && column % 4 == 0;
  }
  static PooledPlaces padded(const PaddedShape& s) {
    return {static_cast<int>(s.at(0, 0, 0)), static_cast<int>(s.sample()), static_cast<int>(s.row()),
            static_cast<int>(s.c), 1};
  }
  // Images (n,c,h,w) without a border.
  static PooledPlaces planes(const PaddedShape& s) {
    return {0, static_cast<int>(s.c * s.h * s.w), static_cast<int>(s.w), 1, static_cast<int>(s.h * s.w)};
  }
};

constexpr int kDead = 4;  // as the argmax of a window whose result is not positive: no gradient passes

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
void conv_block(const ConvBlockShape&, const float* x, const float* w, const float* b, const PooledPlaces&,
                float* y, uint8_t* argmax, bool marks_dead, const Queue&);
// marked = argmax, and kDead where y is not positive.
void mark_dead(const PaddedShape&, const float* y, const uint8_t* argmax, uint8_t* marked, cudaStream_t);
void conv_same(const ConvSameShape&, const float* x, const float* w, const float* b, bool relu, float* y,
               const Queue&);

// Gradients of a convolution begin with that of its result before ReLU and pooling, `dense`: padded NHWC with
// the border of its kernel, which is zero beforehand, as the pixels that no window pools are.
inline PaddedShape dense_of(const ConvSameShape& s) { return {s.n, s.oc, s.h, s.w, s.kh / 2, s.kw / 2}; }
inline ConvSameShape same_shape(const ConvBlockShape& s) {
  return {s.n, s.c, s.h, s.w, s.oc, s.kh, s.kw, 0, 0};
}
// y null: no ReLU.
void spread_same(const ConvSameShape&, const float* dy, const float* y, float* dense, cudaStream_t);
// argmax has the dead marked.
void spread_pooled(const ConvBlockShape&, const float* dy, const PooledPlaces&, const uint8_t* argmax,
                   float* dense, cudaStream_t);
void dense_input_gradient(const ConvSameShape&, const float* dense, const float* w, float* dx, const Queue&);
// db null: no bias.
void dense_weight_gradient(const ConvSameShape&, const float* dense, const float* x, float* dw, float* db,
                           const Queue&);
// Whether both gradients had better be made of dy itself, which then is nowhere dense.
bool has_pooled_bands(const ConvBlockShape&, Precision);
// False, and nothing is done, where there is no kernel for it.
bool pooled_input_gradient(const ConvBlockShape&, const float* dy, const PooledPlaces&, const uint8_t* argmax,
                           const float* w, float* dx, const Queue&);
void pooled_weight_gradient(const ConvBlockShape&, const float* dy, const PooledPlaces&, const float* x,
                            const uint8_t* argmax, float* dw, float* db, const Queue&);
void batch_norm_stats(const PaddedShape&, const float* x, float* mean, float* var, cudaStream_t);
void batch_norm_relu(const BatchNormShape&, const float* x, const BatchNormParams<float>&, float* y,
                     uint8_t* argmax, cudaStream_t);
// dx null: none.
void batch_norm_relu_backward(const BatchNormShape&, const float* dy, const float* x, const uint8_t* argmax,
                              const BatchNormParams<float>&, float* dx, float* dgamma, float* dbeta,
                              cudaStream_t);
void split_halves(const PaddedShape&, const float* x, float* y, cudaStream_t);
void join_halves(const PaddedShape&, const float* y, float* x, cudaStream_t);
void pair_logits(int64_t n, int64_t k, const float* scores, float* logits, cudaStream_t);
void pair_logits_backward(int64_t n, int64_t k, const float* dlogits, float* dscores, cudaStream_t);
void linear(const LinearShape&, const float* x, const float* w, const float* b, float* y, const Queue&);
// dy is scaled where y is positive, and nothing elsewhere; y null: as it is.
struct LinearMask {
  const float* y = nullptr;
  double scale = 1;
  static LinearMask of_block(double p, const float* y);
};
void linear_input_gradient(const LinearShape&, const float* dy, const LinearMask&, const float* w, float* dx,
                           const Queue&);
void linear_weight_gradient(const LinearShape&, const float* dy, const LinearMask&, const float* x, float* dw,
                            float* db, const Queue&);
void linear_block(const LinearShape&, double p, Draws, const float* x, const float* w, const float* b,
                  float* y, const Queue&);
// A linear layer from x, the losses (n) of its results as logits, the gradients at these (n,out) and, masked,
// at x. False, and nothing is done, where there is no kernel for it.
bool linear_loss(const LinearShape&, const float* x, const float* w, const float* b, const int64_t* labels,
                 float* dlogits, double* losses, const LinearMask&, float* dx, const Queue&);
void relu(int64_t size, const float* x, float* y, cudaStream_t);
void relu_backward(int64_t size, const float* dy, const float* y, float* dx, cudaStream_t);
void dropout(int64_t size, double p, Draws, const float* x, float* y, uint8_t* mask, cudaStream_t);
void dropout_backward(int64_t size, double p, const float* dy, const uint8_t* mask, float* dx, cudaStream_t);
void softmax(int64_t n, int64_t classes, const float* x, float* p, cudaStream_t);
void softmax_cross_entropy(int64_t n, int64_t classes, const float* logits, const int64_t* labels,
                           float* dlogits, double* result, cudaStream_t);
// The losses of the rows alone.
void cross_entropy_rows(int64_t n, int64_t classes, const float* logits, const int64_t* labels,
                        float* dlogits, double* losses, cudaStream_t);
void adam_step(int64_t size, const AdamParams&, float* param, const float* grad, float* m, float* v,
               cudaStream_t);
void sgd_step(int64_t size, const SgdParams&, float* param, const float* grad, float* velocity, cudaStream_t);
void ema_update(int64_t size, double decay, float* average, const float* param, cudaStream_t);
void sum_squares(int64_t size, const float* x, double* result, cudaStream_t);
// Which digits the samples of a batch are made of, by the row of `pairs`: samples[i], or, that null,
// order[first + i], or, that null too, first + i; *first_at is added to `first` unless that is null.
struct BatchRows {
  const int64_t* samples;
  int64_t first = 0;
  const int64_t* first_at = nullptr;
  const int64_t* order = nullptr;
  const uint8_t* digit_labels = nullptr;
  int64_t* labels = nullptr;  // where the batch's labels go; null: nowhere
};
// y: images of 28x56 pixels, each `sample` elements after the one before, rows of `row`, from `first` on.
struct ImagePlaces {
  int first = 0, sample = 28 * 56, row = 56;
};
void input_batch(int64_t n, const InputParams&, Draws, const uint8_t* digits, const int32_t* pairs,
                 const BatchRows&, const float* mean, const float* inv_std, float* y, const ImagePlaces&,
                 cudaStream_t);
void fma_rounds(int64_t size, int64_t rounds, float a, float b, float* y, cudaStream_t);

}  // namespace mnist100::cuda
