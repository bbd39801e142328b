// The contract of every kernel: one table of function pointers, filled once per instruction set.
//
// Conventions, unless a declaration says otherwise:
//   - arrays are dense and row-major, the last index fastest; sizes are element counts
//   - outputs are overwritten, never accumulated into, and may not alias any other argument
//   - the caller owns all memory; scratch comes from scratch() below
//   - arguments have been checked by the caller: kernels neither validate nor report
//   - results do not depend on `threads`: work is cut into chunks whose number depends on shapes
//     alone, and partial sums are added in chunk order
//   - T is float for every table and double for the reference table only
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <new>

#ifdef __CUDACC__
#define MNIST100_HOST_DEVICE __host__ __device__
#else
#define MNIST100_HOST_DEVICE
#endif

// Forced, so that no function exists out of line: the linker could keep one instruction set's copy for all.
// Plain inlining compiles in a third of the time; only a machine that has all instruction sets may run it.
#ifdef MNIST100_PLAIN_INLINE
#define MNIST100_INLINE MNIST100_HOST_DEVICE inline
#define MNIST100_LAMBDA_INLINE
#else
#define MNIST100_INLINE [[gnu::always_inline]] MNIST100_HOST_DEVICE inline
#define MNIST100_LAMBDA_INLINE __attribute__((always_inline))  // lambdas take it after their parameters
#endif

namespace mnist100 {

// C (m,n) = alpha * op(A) op(B) + beta * C. op(A) is (m,k), op(B) is (k,n).
struct GemmShape {
  int64_t m, n, k;
  bool trans_a, trans_b;
};

// x (n,c,h,w) -> y (n,oc,oh,ow) with w (oc,c,kh,kw), cross-correlation, zero padding.
struct Conv2dShape {
  int64_t n, c, h, w, oc, kh, kw, sh, sw, ph, pw;
  MNIST100_INLINE int64_t oh() const { return (h + 2 * ph - kh) / sh + 1; }
  MNIST100_INLINE int64_t ow() const { return (w + 2 * pw - kw) / sw + 1; }
};

// x (n,c,h,w) -> y (n,c,oh,ow), windows cut off at the lower and right edge (floor mode).
struct Pool2dShape {
  int64_t n, c, h, w, kh, kw, sh, sw, ph, pw;
  MNIST100_INLINE int64_t oh() const { return (h + 2 * ph - kh) / sh + 1; }
  MNIST100_INLINE int64_t ow() const { return (w + 2 * pw - kw) / sw + 1; }
};

// Zero-padded NHWC: (n, h + 2*bh, w + 2*bw, c), the border of bh rows and bw columns all zero.
struct PaddedShape {
  int64_t n, c, h, w, bh, bw;
  MNIST100_INLINE int64_t row() const { return (w + 2 * bw) * c; }         // elements in a row
  MNIST100_INLINE int64_t sample() const { return (h + 2 * bh) * row(); }  // elements in a sample
  MNIST100_INLINE int64_t at(int64_t i, int64_t y, int64_t x) const {      // first channel of a pixel
    return i * sample() + (y + bh) * row() + (x + bw) * c;
  }
  MNIST100_INLINE int64_t count() const { return n * h * w; }  // values of a channel
};

// Convolution (stride 1, odd kernel, "same" padding) -> + bias -> ReLU -> max-pool 2x2 (floor mode).
// x is padded NHWC with border (kh/2, kw/2); y is padded NHWC with border (ybh, ybw).
struct ConvBlockShape {
  int64_t n, c, h, w, oc, kh, kw, ybh, ybw;
  MNIST100_INLINE int64_t ph() const { return h / 2; }
  MNIST100_INLINE int64_t pw() const { return w / 2; }
  MNIST100_INLINE PaddedShape x() const { return {n, c, h, w, kh / 2, kw / 2}; }
  MNIST100_INLINE PaddedShape y() const { return {n, oc, ph(), pw(), ybh, ybw}; }
};

// Convolution (stride 1, odd kernel, "same" padding). x is padded NHWC with border (kh/2, kw/2); y is padded
// NHWC with border (ybh, ybw).
struct ConvSameShape {
  int64_t n, c, h, w, oc, kh, kw, ybh, ybw;
  MNIST100_INLINE PaddedShape x() const { return {n, c, h, w, kh / 2, kw / 2}; }
  MNIST100_INLINE PaddedShape y() const { return {n, oc, h, w, ybh, ybw}; }
};

// Batch normalisation -> ReLU, and, if pooled, -> max-pool 2x2 (floor mode). x is padded NHWC with border
// (xbh, xbw); y is padded NHWC with border (ybh, ybw).
struct BatchNormShape {
  int64_t n, c, h, w, xbh, xbw, ybh, ybw;
  bool pool;
  MNIST100_INLINE PaddedShape x() const { return {n, c, h, w, xbh, xbw}; }
  MNIST100_INLINE PaddedShape y() const { return {n, c, pool ? h / 2 : h, pool ? w / 2 : w, ybh, ybw}; }
};

// What normalises a channel, arrays of (c): z = (x - mean) * inv_std * gamma + beta.
template <class T>
struct BatchNormParams {
  const T *mean, *inv_std, *gamma, *beta;
};

// x (n,in) -> y (n,out) with w (out,in).
struct LinearShape {
  int64_t n, in, out;
};

// Random stream of one call: Philox-4x32-10 with key `seed`; `step` and the element or sample number
// make the counter, so a value depends on nothing else (philox.h).
struct Stream {
  uint64_t seed;
  uint64_t step;
};

// Adam with L2 in the gradient: g' = g + l2 * param, then Kingma & Ba 2015, algorithm 1, with epsilon
// outside the root. `step` counts from 1. `decay` is decoupled: param loses lr * decay of itself as well.
struct AdamParams {
  int64_t step;
  double lr, beta1, beta2, eps, l2, decay;
};

// v = momentum * v + g + l2 * param;  param -= lr * v.
struct SgdParams {
  double lr, momentum, l2;
};

// What happens to a sample between the table of digits and the batch. Zero switches a part off.
// Each digit: rotated by U(-rotate, rotate) radians, both axes scaled by 1 + U(-scale, scale) each,
// sheared by U(-shear, shear), moved by U(-translate, translate) pixels, all about the digit's centre.
// The standardised pair: moved sideways by U{-shift..shift} whole pixels, vacated columns 0; then
// times 1 + N(0, contrast) plus N(0, brightness), one draw of each a sample; then clipped to +-clip.
struct InputParams {
  double rotate, scale, shear, translate, elastic;
  double contrast, brightness;
  double clip;  // 0: no clip
  int64_t shift;
};

// A chosen instruction set, and what it can do.
template <class T>
struct Kernels {
  const char* name;

  // beta == 0 overwrites C and never reads it. m, n and k may be 0.
  void (*gemm)(const GemmShape&, T alpha, const T* a, const T* b, T beta, T* c, int threads);

  // x (n,c,h,w) -> cols (n*oh*ow, c*kh*kw). Does not use oc.
  void (*im2col)(const Conv2dShape&, const T* x, T* cols, int threads);
  // cols -> dx (n,c,h,w): the transpose of im2col, overlaps are added.
  void (*col2im)(const Conv2dShape&, const T* cols, T* dx, int threads);

  // b (oc) may be null.
  void (*conv2d)(const Conv2dShape&, const T* x, const T* w, const T* b, T* y, int threads);
  // dx, dw, db may be null: that gradient is not computed.
  void (*conv2d_backward)(const Conv2dShape&, const T* dy, const T* x, const T* w, T* dx, T* dw, T* db,
                          int threads);

  // argmax (n,c,oh,ow): flat index into the (h,w) plane of the first largest element in row-major
  // order. Padding counts as -inf; a NaN is larger than everything before it, as in PyTorch.
  void (*max_pool2d)(const Pool2dShape&, const T* x, T* y, int32_t* argmax, int threads);
  // dx[argmax] += dy over a zeroed dx. False if an argmax lies outside [0, h*w): nothing outside of dx has
  // been touched, but dx is undefined.
  bool (*max_pool2d_backward)(const Pool2dShape&, const T* dy, const int32_t* argmax, T* dx, int threads);

  // (n,c,h,w) -> padded NHWC and back. The first writes the border, the second ignores it.
  void (*pad_nhwc)(const PaddedShape&, const T* x, T* y, int threads);
  void (*unpad_nhwc)(const PaddedShape&, const T* x, T* y, int threads);

  // y.interior = max over each 2x2 window of relu(conv(x, w) + b); y.border = 0.
  // argmax (n,ph,pw,oc), 0..3: place of the first maximum in its window, row-major. w (oc,c,kh,kw).
  // Results of one window that are equal but for rounding may come out in either order.
  void (*conv_block)(const ConvBlockShape&, const T* x, const T* w, const T* b, T* y, uint8_t* argmax,
                     int threads);
  // dy in y's layout (border ignored); x, y, argmax as the forward pass left them. A gradient passes
  // where y > 0. dx (null: not wanted) in x's layout, border unspecified; dw (oc,c,kh,kw); db (oc).
  void (*conv_block_backward)(const ConvBlockShape&, const T* dy, const T* x, const T* y,
                              const uint8_t* argmax, const T* w, T* dx, T* dw, T* db, int threads);

  // y.interior = conv(x, w) + b, with relu its positive part; y.border = 0. w (oc,c,kh,kw); b (oc) may be
  // null.
  void (*conv_same)(const ConvSameShape&, const T* x, const T* w, const T* b, bool relu, T* y, int threads);
  // dy in y's layout (border ignored). y: the forward pass's with relu, a gradient then passes where y > 0;
  // null without. dx (null: not wanted) in x's layout, border unspecified; dw (oc,c,kh,kw); db (oc).
  void (*conv_same_backward)(const ConvSameShape&, const T* dy, const T* x, const T* y, const T* w, T* dx,
                             T* dw, T* db, int threads);

  // mean (c) and biased variance var (c) of every channel of x over (n,h,w); the border is not read. n, h and
  // w are at least 1. Deviations are summed about each sample's own mean, and the samples combined in double.
  void (*batch_norm_stats)(const PaddedShape&, const T* x, T* mean, T* var, int threads);
  // y.interior = relu(z), or with pool the max over each 2x2 window of it; y.border = 0. argmax (n,h/2,w/2,c)
  // as in conv_block; null without pool.
  void (*batch_norm_relu)(const BatchNormShape&, const T* x, const BatchNormParams<T>&, T* y, uint8_t* argmax,
                          int threads);
  // Of a batch whose own statistics are mean and inv_std. dy in y's layout (border ignored); g is dy where
  // z > 0, with pool at the places of argmax, else 0; xhat = (x - mean) * inv_std.
  //   dbeta = sum g;  dgamma = sum g * xhat;  dx = gamma * inv_std * (g - (dbeta + xhat * dgamma) / (n*h*w))
  // dx in x's layout, border unspecified.
  void (*batch_norm_relu_backward)(const BatchNormShape&, const T* dy, const T* x, const uint8_t* argmax,
                                   const BatchNormParams<T>&, T* dx, T* dgamma, T* dbeta, int threads);

  // x (n,c,h,2w) -> y, padded NHWC of 2n samples (n,c,h,w in PaddedShape: those of y): sample 2i is the left
  // half of i, 2i + 1 the right one. Writes the border. The second goes back and ignores it.
  void (*split_halves)(const PaddedShape&, const T* x, T* y, int threads);
  void (*join_halves)(const PaddedShape&, const T* y, T* x, int threads);
  // scores (2n,k) of left and right halves -> logits (n,k*k): logits[i][k*a + b] = scores[2i][a] +
  // scores[2i+1][b].
  void (*pair_logits)(int64_t n, int64_t k, const T* scores, T* logits, int threads);
  // dscores[2i][a] = sum over b of dlogits[i][k*a + b]; dscores[2i+1][b] = sum over a.
  void (*pair_logits_backward)(int64_t n, int64_t k, const T* dlogits, T* dscores, int threads);

  // y = x w^T + b; b (out) may be null.
  void (*linear)(const LinearShape&, const T* x, const T* w, const T* b, T* y, int threads);
  // dx = dy w; dw = dy^T x; db = column sums of dy. dx and db may be null.
  void (*linear_backward)(const LinearShape&, const T* dy, const T* x, const T* w, T* dx, T* dw, T* db,
                          int threads);

  // y = dropout(relu(x w^T + b)), each as below, on y as it lies in memory. p == 0 draws nothing.
  void (*linear_block)(const LinearShape&, double p, Stream stream, const T* x, const T* w, const T* b, T* y,
                       int threads);
  // y as the forward pass left it; the gradient dy / (1 - p) passes where y > 0, which is where ReLU and
  // dropout let x w^T + b through. dx and db may be null.
  void (*linear_block_backward)(const LinearShape&, double p, const T* dy, const T* y, const T* x, const T* w,
                                T* dx, T* dw, T* db, int threads);

  // y = max(x, 0), NaN kept. y may be x.
  void (*relu)(int64_t size, const T* x, T* y, int threads);
  // dx = dy where y > 0, else 0. dx may be dy.
  void (*relu_backward)(int64_t size, const T* dy, const T* y, T* dx, int threads);

  // Inverted dropout: y = x / (1 - p) where mask, else 0; 0 <= p < 1. mask[i] = bits_i >= p * 2^32,
  // bits_i being word i % 4 of the Philox block with counter (i / 4, step).
  void (*dropout)(int64_t size, double p, Stream stream, const T* x, T* y, uint8_t* mask, int threads);
  void (*dropout_backward)(int64_t size, double p, const T* dy, const uint8_t* mask, T* dx, int threads);

  // p (n,classes) = exp(x - max) / sum, row by row.
  void (*softmax)(int64_t n, int64_t classes, const T* x, T* p, int threads);
  // Mean over rows of log(sum(exp(x))) - x[label]; dlogits = (softmax - onehot) / n. labels in
  // [0, classes). The mean is summed in double.
  double (*softmax_cross_entropy)(int64_t n, int64_t classes, const T* logits, const int64_t* labels,
                                  T* dlogits, int threads);

  // In place: param, m, v.
  void (*adam_step)(int64_t size, const AdamParams&, T* param, const T* grad, T* m, T* v, int threads);
  // In place: param, velocity.
  void (*sgd_step)(int64_t size, const SgdParams&, T* param, const T* grad, T* velocity, int threads);
  // average = decay * average + (1 - decay) * param, in place.
  void (*ema_update)(int64_t size, double decay, T* average, const T* param, int threads);
  // Sum of x[i]^2, added in double.
  double (*sum_squares)(int64_t size, const T* x, int threads);

  // digits (*,28,28) and pairs (*,2) of indices into it; samples (n) picks rows of pairs.
  // y (n,28,56) = clip(augment((pixel / 255 - mean) * inv_std)); mean, inv_std (28,56).
  // The draws of sample s come from the Philox blocks with counter (s, purpose, step).
  void (*input_batch)(int64_t n, const InputParams&, Stream stream, const uint8_t* digits,
                      const int32_t* pairs, const int64_t* samples, const float* mean, const float* inv_std,
                      float* y, int threads);

  // y[i] = a * y[i] + b, `rounds` times over without touching memory: the measure of peak arithmetic.
  void (*fma_rounds)(int64_t size, int64_t rounds, T a, T b, T* y, int threads);
};

// The kernels in use, chosen at import (dispatch.cpp). double always means the reference.
template <class T>
const Kernels<T>& kernels();

// Names that set_isa takes: every built one of the CPU, those of the GPU if they are built, then "reference".
constexpr int kMaxIsas = 8;
int isa_names(const char** names);
bool isa_supported(const char* name);  // built, and this machine can run it
bool set_isa(const char* name);        // false: not supported; nothing changes
const char* best_isa();

// random_keys[i]: 64 bits from the Philox block with counter (i, purpose, step).
void random_keys(int64_t size, Stream stream, uint64_t* keys);

// The first i for which values[i] lies outside [0, stop), or -1.
int64_t first_outside(int64_t size, const int32_t* values, int32_t stop, int threads);
int64_t first_outside(int64_t size, const int64_t* values, int64_t stop, int threads);

// Says how much was asked for; a MemoryError in Python.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(size_t bytes, const char* of = "");
  const char* what() const noexcept override;

 private:
  char text_[64];
};

// This thread's scratch block, at least `bytes` long and 64-byte aligned, valid until the thread's
// next call. Throws OutOfMemory. Kernels call it outside parallel regions, and hold no block of their own
// while they call another kernel that does.
void* scratch(size_t bytes);

// Memory of an array: at least `bytes` long and 64-byte aligned, its contents undefined. What release() gets
// back is kept for later acquire() calls of about that size (memory.cpp). Throws OutOfMemory.
void* acquire(size_t bytes);
void release(void* block);
// Blocks of 16 KiB and more, of arrays and of scratch, that the system had to give so far.
int64_t blocks_taken();

// Threads a kernel should use: the number set, or 1 in a forked child (thread pools do not survive
// fork). Defaults to OMP_NUM_THREADS or the number of processors.
int num_threads();
void set_num_threads(int n);
bool has_openmp();
const char* compiler();
const char* optimisation_flags();  // of the kernels

// Constant data, so that registering an instruction set runs none of its code.
namespace baseline {
extern const Kernels<float> table;
}
namespace v3 {
extern const Kernels<float> table;
}
namespace v4 {
extern const Kernels<float> table;
}
namespace v4_bf16 {
extern const Kernels<float> table;
}
namespace cuda {
extern const Kernels<float> table, table_tf32, table_bf16;  // by what products are made with
bool available();                                           // a GPU, and a driver that can use it
}  // namespace cuda
namespace reference {
extern const Kernels<float> table_float;
extern const Kernels<double> table_double;
}  // namespace reference

}  // namespace mnist100
