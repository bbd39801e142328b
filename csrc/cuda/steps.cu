#include "steps.cuh"

#include "adam.cuh"
#include "device_memory.cuh"

namespace mnist100::cuda {
namespace {

// adam.lr and adam.step are this step's; lambda / n is the L2 of a weight.
__global__ void adam_factors_kernel(const StepState* state, AdamParams adam, double average_decay,
                                    const double* rates, int64_t n, AdamFactors* factors,
                                    float* average_gain) {
  adam.step = static_cast<int64_t>(state->step);
  adam.lr = rates[state->step - 1];
  adam.l2 /= static_cast<double>(n);
  factors[0] = adam_factors(adam);
  adam.l2 = adam.decay = 0;
  factors[1] = adam_factors(adam);
  const double count = static_cast<double>(state->step), early = (1 + count) / (10 + count);
  *average_gain = static_cast<float>(1.0 - (average_decay < early ? average_decay : early));
}

__global__ void update_kernel(int decaying, int learning, int all, const AdamFactors* factors,
                              const float* average_gain, TensorArrays t) {
  const int i = element();
  if (i >= all) return;
  if (i < learning) adam_element(factors[i < decaying ? 0 : 1], t.grads[i], t.values[i], t.m[i], t.v[i]);
  if (t.average) t.average[i] += *average_gain * (t.values[i] - t.average[i]);
}

__global__ void end_step_kernel(StepState* state, double lambda, int64_t n) {
  const double count = static_cast<double>(n);
  state->loss_sum += (state->cross_entropy + lambda / (2 * count) * state->squares) * count;
  state->first += n;
  ++state->step;
}

__global__ void __launch_bounds__(kBlock)
    correct_kernel(int n, int classes, const float* logits, const int64_t* labels, int64_t* correct) {
  int sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kBlock) {
    const float* row = logits + static_cast<int64_t>(i) * classes;
    int best = 0;
    for (int j = 1; j < classes; ++j)
      if (row[best] == row[best] && beats(row[j], row[best])) best = j;  // of NaNs the first
    sum += best == labels[i];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) *correct += sum;
}

}  // namespace

void update_tensors(const StepState* state, const TensorArrays& t, const AdamParams& adam,
                    double average_decay, const double* rates, int64_t n, cudaStream_t stream) {
  Buffer<AdamFactors> factors(2, stream);
  Buffer<float> gain(1, stream);
  launch(adam_factors_kernel, dim3(1), dim3(1), stream, state, adam, average_decay, rates, n, factors.get(),
         gain.get());
  launch_elements(update_kernel, t.average ? t.all : t.learning, stream, static_cast<int>(t.decaying),
                  static_cast<int>(t.learning), static_cast<int>(t.average ? t.all : t.learning),
                  static_cast<const AdamFactors*>(factors.get()), static_cast<const float*>(gain.get()), t);
}

void end_step(StepState* state, double lambda, int64_t n, cudaStream_t stream) {
  launch(end_step_kernel, dim3(1), dim3(1), stream, state, lambda, n);
}

void add_correct(int64_t n, int64_t classes, const float* logits, const int64_t* labels, int64_t* correct,
                 cudaStream_t stream) {
  launch(correct_kernel, dim3(1), dim3(kBlock), stream, static_cast<int>(n), static_cast<int>(classes),
         logits, labels, correct);
}

}  // namespace mnist100::cuda
