// Products, activations, losses, updates and the input kernel for arrays in the CPU's memory.
#include "host_ops.cuh"
#include "ops.cuh"
#include "staging.cuh"

namespace mnist100::cuda::host {

void relu(int64_t size, const float* x, float* y, int) {
  Staging call;
  cuda::relu(size, call.in(x, size), call.out(y, size), call.stream);
  call.finish();
}

void relu_backward(int64_t size, const float* dy, const float* y, float* dx, int) {
  Staging call;
  cuda::relu_backward(size, call.in(dy, size), call.in(y, size), call.out(dx, size), call.stream);
  call.finish();
}

void dropout(int64_t size, double p, Stream random, const float* x, float* y, uint8_t* mask, int) {
  Staging call;
  cuda::dropout(size, p, random, call.in(x, size), call.out(y, size), call.out(mask, size), call.stream);
  call.finish();
}

void dropout_backward(int64_t size, double p, const float* dy, const uint8_t* mask, float* dx, int) {
  Staging call;
  cuda::dropout_backward(size, p, call.in(dy, size), call.in(mask, size), call.out(dx, size), call.stream);
  call.finish();
}

void softmax(int64_t n, int64_t classes, const float* x, float* p, int) {
  Staging call;
  cuda::softmax(n, classes, call.in(x, n * classes), call.out(p, n * classes), call.stream);
  call.finish();
}

double softmax_cross_entropy(int64_t n, int64_t classes, const float* logits, const int64_t* labels,
                             float* dlogits, int) {
  Staging call;
  double loss = 0;
  cuda::softmax_cross_entropy(n, classes, call.in(logits, n * classes), call.in(labels, n),
                              call.out(dlogits, n * classes), call.out(&loss, 1), call.stream);
  call.finish();
  return loss;
}

void adam_step(int64_t size, const AdamParams& a, float* param, const float* grad, float* m, float* v, int) {
  Staging call;
  cuda::adam_step(size, a, call.in_out(param, size), call.in(grad, size), call.in_out(m, size),
                  call.in_out(v, size), call.stream);
  call.finish();
}

void sgd_step(int64_t size, const SgdParams& a, float* param, const float* grad, float* velocity, int) {
  Staging call;
  cuda::sgd_step(size, a, call.in_out(param, size), call.in(grad, size), call.in_out(velocity, size),
                 call.stream);
  call.finish();
}

void ema_update(int64_t size, double decay, float* average, const float* param, int) {
  Staging call;
  cuda::ema_update(size, decay, call.in_out(average, size), call.in(param, size), call.stream);
  call.finish();
}

double sum_squares(int64_t size, const float* x, int) {
  Staging call;
  double sum = 0;
  cuda::sum_squares(size, call.in(x, size), call.out(&sum, 1), call.stream);
  call.finish();
  return sum;
}

void input_batch(int64_t n, const InputParams& p, Stream random, const uint8_t* digits, const int32_t* pairs,
                 const int64_t* samples, const float* mean, const float* inv_std, float* y, int) {
  constexpr int64_t kDigit = 28 * 28;
  int64_t pair_count = 0, digit_count = 0;  // as far as these samples reach
  for (int64_t i = 0; i < n; ++i) {
    if (samples[i] >= pair_count) pair_count = samples[i] + 1;
    for (int half = 0; half < 2; ++half)
      if (pairs[2 * samples[i] + half] >= digit_count) digit_count = pairs[2 * samples[i] + half] + 1;
  }
  Staging call;
  cuda::input_batch(n, p, random, call.in(digits, digit_count * kDigit), call.in(pairs, 2 * pair_count),
                    BatchRows{call.in(samples, n)}, call.in(mean, 2 * kDigit), call.in(inv_std, 2 * kDigit),
                    call.out(y, n * 2 * kDigit), {}, call.stream);
  call.finish();
}

void fma_rounds(int64_t size, int64_t rounds, float a, float b, float* y, int) {
  Staging call;
  cuda::fma_rounds(size, rounds, a, b, call.in_out(y, size), call.stream);
  call.finish();
}

}  // namespace mnist100::cuda::host
