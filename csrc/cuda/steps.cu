#include "steps.cuh"

#include "quads.cuh"

namespace mnist100::cuda {
namespace {

constexpr int kOfThread = 4;  // elements, one 16-byte access
constexpr int kOfBlock = kOfThread * kBlock;

// Elements first .. first + 3, in 16-byte accesses; returns the sum of their squares.
__device__ double update_four(const AdamFactors& f, float average_gain, int first, const TensorArrays& t) {
  float values[4], grads[4], m[4], v[4], average[4] = {};
  load_quad(t.values + first, true, 4, values);
  load_quad(t.grads + first, true, 4, grads);
  load_quad(t.m + first, true, 4, m);
  load_quad(t.v + first, true, 4, v);
  if (t.average) load_quad(t.average + first, true, 4, average);
  double sum = 0;
  MNIST100_UNROLL
  for (int e = 0; e < 4; ++e) {
    sum += static_cast<double>(values[e]) * static_cast<double>(values[e]);
    adam_element(f, grads[e], values[e], m[e], v[e]);
    average[e] += average_gain * (values[e] - average[e]);
  }
  store_quad(t.values + first, values);
  store_quad(t.m + first, m);
  store_quad(t.v + first, v);
  if (t.average) store_quad(t.average + first, average);
  return sum;
}

// Blocks of kOfBlock elements; `squares` of the decaying ones of a block.
__global__ void __launch_bounds__(kBlock)
    update_kernel(int decaying, int learning, int all, float l2, const StepState* state,
                  const StepFactors* factors, TensorArrays t, double* squares) {
  await_previous();
  const int first = element() * kOfThread;
  const StepFactors now = factors[state->step - 1];
  AdamFactors plain = now.adam, decayed = now.adam;
  plain.kept = 1.0f;
  decayed.l2 = l2;
  double sum = 0;
  if (first + kOfThread <= decaying) {
    sum = update_four(decayed, now.average_gain, first, t);
  } else {
    for (int i = first; i < first + kOfThread && i < all; ++i) {
      float value = t.values[i];
      if (i < decaying) sum += static_cast<double>(value) * static_cast<double>(value);
      if (i < learning) {
        adam_element(i < decaying ? decayed : plain, t.grads[i], value, t.m[i], t.v[i]);
        t.values[i] = value;
      }
      if (t.average) t.average[i] += now.average_gain * (value - t.average[i]);
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

__device__ double sum_of(int64_t count, const double* terms) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kBlock) sum += terms[i];
  return block_sum(sum);
}

// One block.
__global__ void __launch_bounds__(kBlock)
    end_step_kernel(StepState* state, double lambda, int64_t n, const double* losses, int64_t parts,
                    const double* squares) {
  await_previous();
  const double loss = sum_of(n, losses), weights = sum_of(parts, squares);
  if (threadIdx.x > 0) return;
  state->loss_sum += loss + lambda / 2 * weights;
  state->first += n;
  ++state->step;
}

__global__ void __launch_bounds__(kBlock)
    correct_kernel(int n, int classes, const float* logits, const int64_t* labels, int64_t* correct) {
  await_previous();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  int sum = 0;
  for (int i = static_cast<int>(threadIdx.x) / kWarp; i < n; i += kBlock / kWarp) {
    const float* row = logits + static_cast<int64_t>(i) * classes;
    // The label is found unless something beats it: a larger one, an equal one before it, a NaN before a
    // number.
    const int label = static_cast<int>(labels[i]);
    const float own = row[label];
    int beaten = 0;
    for (int j = lane; j < classes; j += kWarp) beaten += j < label ? !(row[j] < own) : beats(row[j], own);
    if (own != own) {  // of NaNs the first
      beaten = 0;
      for (int j = lane; j < label; j += kWarp) beaten += row[j] != row[j];
    }
    beaten = warp_sum(beaten);
    if (lane == 0) sum += beaten == 0;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) *correct += sum;
}

}  // namespace

std::vector<StepFactors> step_factors(const AdamParams& adam, double average_decay,
                                      const std::vector<double>& rates) {
  std::vector<StepFactors> factors;
  AdamParams of_step = adam;
  of_step.l2 = 0;
  for (double rate : rates) {
    of_step.lr = rate;
    of_step.step = static_cast<int64_t>(factors.size()) + 1;
    const double count = static_cast<double>(of_step.step), early = (1 + count) / (10 + count);
    factors.push_back(
        {adam_factors(of_step), static_cast<float>(1.0 - (average_decay < early ? average_decay : early))});
  }
  return factors;
}

int64_t square_parts(const TensorArrays& t) { return ceil_div(t.average ? t.all : t.learning, kOfBlock); }

void update_tensors(const StepState* state, const TensorArrays& t, double l2, const StepFactors* factors,
                    double* squares, cudaStream_t stream) {
  launch(update_kernel, dim3(static_cast<unsigned>(square_parts(t))), dim3(kBlock), stream,
         static_cast<int>(t.decaying), static_cast<int>(t.learning),
         static_cast<int>(t.average ? t.all : t.learning), static_cast<float>(l2), state, factors, t,
         squares);
}

void end_step(StepState* state, double lambda, int64_t n, const double* losses, int64_t parts,
              const double* squares, cudaStream_t stream) {
  launch(end_step_kernel, dim3(1), dim3(kBlock), stream, state, lambda, n, losses, parts, squares);
}

void add_correct(int64_t n, int64_t classes, const float* logits, const int64_t* labels, int64_t* correct,
                 cudaStream_t stream) {
  launch(correct_kernel, dim3(1), dim3(kBlock), stream, static_cast<int>(n), static_cast<int>(classes),
         logits, labels, correct);
}

}  // namespace mnist100::cuda
