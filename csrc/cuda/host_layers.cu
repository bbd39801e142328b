// Convolutions, pools, batch normalisation and layouts for arrays in the CPU's memory.
#include "host_ops.cuh"
#include "ops.cuh"
#include "staging.cuh"

namespace mnist100::cuda::host {
namespace {

int64_t images(const Pool2dShape& s) { return s.n * s.c * s.h * s.w; }
int64_t windows(const Pool2dShape& s) { return s.n * s.c * s.oh() * s.ow(); }
int64_t columns(const Conv2dShape& s) { return s.n * s.oh() * s.ow() * s.c * s.kh * s.kw; }

BatchNormParams<float> staged(Staging& call, const BatchNormParams<float>& p, int64_t c) {
  return {call.in(p.mean, c), call.in(p.inv_std, c), call.in(p.gamma, c), call.in(p.beta, c)};
}

}  // namespace

void im2col(const Conv2dShape& s, const float* x, float* cols, int) {
  Staging call;
  cuda::im2col(s, call.in(x, images(s)), call.out(cols, columns(s)), call.stream);
  call.finish();
}

void col2im(const Conv2dShape& s, const float* cols, float* dx, int) {
  Staging call;
  cuda::col2im(s, call.in(cols, columns(s)), call.out(dx, images(s)), call.stream);
  call.finish();
}

void max_pool2d(const Pool2dShape& s, const float* x, float* y, int32_t* argmax, int) {
  Staging call;
  cuda::max_pool2d(s, call.in(x, images(s)), call.out(y, windows(s)), call.out(argmax, windows(s)),
                   call.stream);
  call.finish();
}

bool max_pool2d_backward(const Pool2dShape& s, const float* dy, const int32_t* argmax, float* dx, int) {
  Staging call;
  int32_t valid = 0;
  cuda::max_pool2d_backward(s, call.in(dy, windows(s)), call.in(argmax, windows(s)), call.out(dx, images(s)),
                            call.out(&valid, 1), call.stream);
  call.finish();
  return valid != 0;
}

void pad_nhwc(const PaddedShape& s, const float* x, float* y, int) {
  Staging call;
  cuda::pad_nhwc(s, call.in(x, interior(s)), call.out(y, padded(s)), call.stream);
  call.finish();
}

void unpad_nhwc(const PaddedShape& s, const float* x, float* y, int) {
  Staging call;
  cuda::unpad_nhwc(s, call.in(x, padded(s)), call.out(y, interior(s)), call.stream);
  call.finish();
}

void batch_norm_stats(const PaddedShape& s, const float* x, float* mean, float* var, int) {
  Staging call;
  cuda::batch_norm_stats(s, call.in(x, padded(s)), call.out(mean, s.c), call.out(var, s.c), call.stream);
  call.finish();
}

void batch_norm_relu(const BatchNormShape& s, const float* x, const BatchNormParams<float>& p, float* y,
                     uint8_t* argmax, int) {
  Staging call;
  cuda::batch_norm_relu(s, call.in(x, padded(s.x())), staged(call, p, s.c), call.zeros(y, padded(s.y())),
                        call.out(argmax, interior(s.y())), call.stream);
  call.finish();
}

void batch_norm_relu_backward(const BatchNormShape& s, const float* dy, const float* x, const uint8_t* argmax,
                              const BatchNormParams<float>& p, float* dx, float* dgamma, float* dbeta, int) {
  Staging call;
  cuda::batch_norm_relu_backward(s, call.in(dy, padded(s.y())), call.in(x, padded(s.x())),
                                 call.in(argmax, interior(s.y())), staged(call, p, s.c),
                                 call.out(dx, padded(s.x())), call.out(dgamma, s.c), call.out(dbeta, s.c),
                                 call.stream);
  call.finish();
}

void split_halves(const PaddedShape& s, const float* x, float* y, int) {
  Staging call;
  cuda::split_halves(s, call.in(x, interior(s)), call.out(y, padded(s)), call.stream);
  call.finish();
}

void join_halves(const PaddedShape& s, const float* y, float* x, int) {
  Staging call;
  cuda::join_halves(s, call.in(y, padded(s)), call.out(x, interior(s)), call.stream);
  call.finish();
}

void pair_logits(int64_t n, int64_t k, const float* scores, float* logits, int) {
  Staging call;
  cuda::pair_logits(n, k, call.in(scores, 2 * n * k), call.out(logits, n * k * k), call.stream);
  call.finish();
}

void pair_logits_backward(int64_t n, int64_t k, const float* dlogits, float* dscores, int) {
  Staging call;
  cuda::pair_logits_backward(n, k, call.in(dlogits, n * k * k), call.out(dscores, 2 * n * k), call.stream);
  call.finish();
}

}  // namespace mnist100::cuda::host
