#include "steps.cuh"

#include <algorithm>

#include "quads.cuh"

namespace mnist100::cuda {
namespace {

constexpr int kOfThread = 4;  // elements, one 16-byte access
constexpr int kOfBlock = kOfThread * kBlock;

// Elements [from, to).
struct Stretch {
  int from, to;
  int parts() const { return ceil_div(to - from, kOfBlock); }
};

struct Factors {
  AdamFactors weights, others;
  float average_gain;
  __device__ Factors(const StepFactors& of_step, float l2)
      : weights(of_step.adam), others(of_step.adam), average_gain(of_step.average_gain) {
    others.kept = 1.0f;
    weights.l2 = l2;
  }
};

// Four weights in 16-byte accesses.
struct FourWeights {
  float values[4], m[4], v[4], average[4];

  __device__ void load(int first, const TensorArrays& t) {
    load_quad(t.values + first, true, 4, values);
    load_quad(t.m + first, true, 4, m);
    load_quad(t.v + first, true, 4, v);
    if (t.average) load_quad(t.average + first, true, 4, average);
  }

  // Returns the sum of their squares.
  __device__ double update(const Factors& now, int first, const TensorArrays& t) {
    float grads[4];
    load_quad(t.grads + first, true, 4, grads);
    double sum = 0;
    MNIST100_UNROLL
    for (int e = 0; e < 4; ++e) {
      sum += static_cast<double>(values[e]) * static_cast<double>(values[e]);
      adam_element(now.weights, grads[e], values[e], m[e], v[e]);
      average[e] += now.average_gain * (values[e] - average[e]);
    }
    store_quad(t.values + first, values);
    store_quad(t.m + first, m);
    store_quad(t.v + first, v);
    if (t.average) store_quad(t.average + first, average);
    return sum;
  }
};

// The same for elements of any kind, from `first` to `to`.
__device__ double update_some(const Factors& now, int first, int to, const TensorArrays& t) {
  double sum = 0;
  for (int i = first; i < to; ++i) {
    float value = t.values[i];
    if (i < t.decaying) sum += static_cast<double>(value) * static_cast<double>(value);
    if (i < t.learning) {
      adam_element(i < t.decaying ? now.weights : now.others, t.grads[i], value, t.m[i], t.v[i]);
      t.values[i] = value;
    }
    if (t.average) t.average[i] += now.average_gain * (value - t.average[i]);
  }
  return sum;
}

// Blocks of kOfBlock elements, of `first`, then of `second`; `squares` of the decaying ones of a block.
__global__ void __launch_bounds__(kBlock)
    update_kernel(Stretch first, Stretch second, int parts_of_first, StepNumber step, float l2,
                  const StepFactors* factors, TensorArrays t, double* squares) {
  const int part = static_cast<int>(blockIdx.x);
  const bool is_first = part < parts_of_first;
  const Stretch of = is_first ? first : second;
  const int from = of.from + (is_first ? part : part - parts_of_first) * kOfBlock +
                   kOfThread * static_cast<int>(threadIdx.x);
  const int to = from + kOfThread < of.to ? from + kOfThread : of.to;
  const bool is_four = from % kOfThread == 0 && to - from == kOfThread && to <= t.decaying;
  // The kernel before this one only made gradients, or moved other tensors.
  FourWeights four = {};
  if (is_four) four.load(from, t);
  const Factors now(factors[step.now() - 1], l2);
  await_previous();
  double sum = is_four ? four.update(now, from, t) : update_some(now, from, to, t);
  sum = block_sum(sum);
  if (threadIdx.x == 0) squares[part] = sum;
}

__device__ double warp_sum_of(int64_t count, const double* terms) {
  double sum = 0;
  MNIST100_UNROLL_BY(8)
  for (int64_t i = threadIdx.x % kWarp; i < count; i += kWarp) sum += terms[i];
  return warp_sum(sum);
}

// One block, a warp a step.
__global__ void __launch_bounds__(kBlock)
    end_steps_kernel(StepState* state, int steps, double lambda, int64_t n, const double* losses,
                     int64_t parts, const double* squares) {
  await_previous();
  constexpr int kWarps = kBlock / kWarp;
  __shared__ double sums[kWarps];
  for (int first = 0; first < steps; first += kWarps) {
    const int warp = static_cast<int>(threadIdx.x) / kWarp, step = first + warp;
    if (step < steps) {
      const double loss = warp_sum_of(n, losses + step * n);
      const double weights = warp_sum_of(parts, squares + step * parts);
      if (threadIdx.x % kWarp == 0) sums[warp] = loss + lambda / 2 * weights;
    }
    __syncthreads();
    if (threadIdx.x == 0)
      for (int i = 0; i < kWarps && first + i < steps; ++i) state->loss_sum += sums[i];
    __syncthreads();
  }
  if (threadIdx.x > 0) return;
  state->first += steps * n;
  state->step += static_cast<uint64_t>(steps);
}

__global__ void __launch_bounds__(kBlock) correct_kernel(int n, int classes, const float* logits,
                                                         const int64_t* labels, unsigned long long* correct) {
  await_previous();
  constexpr int kRows = kBlock / kWarp;  // a warp a row
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int i = static_cast<int>(blockIdx.x) * kRows + static_cast<int>(threadIdx.x) / kWarp;
  int sum = 0;
  if (i < n) {
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
    if (lane == 0) sum = beaten == 0;
  }
  sum = block_sum(sum);  // of whole numbers, which can be added in any order
  if (threadIdx.x == 0) atomicAdd(correct, static_cast<unsigned long long>(sum));
}

}  // namespace

// The tensors without decay; buffers only where there is an average of them.
static Stretch others(const TensorArrays& t) {
  return {static_cast<int>(t.decaying), static_cast<int>(t.average ? t.all : t.learning)};
}

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

Update::Update(const TensorArrays& arrays, int64_t head)
    : arrays_(arrays), head_((std::min(head, arrays.decaying) + kOfThread - 1) / kOfThread * kOfThread) {
  head_ = std::min(head_, arrays_.decaying);
  parts_of_head_ = Stretch{static_cast<int>(head_), static_cast<int>(arrays_.decaying)}.parts();
  parts_of_rest_ = Stretch{0, static_cast<int>(head_)}.parts() + others(arrays_).parts();
}

void Update::head(const StepNumber& step, double l2, const StepFactors* factors, double* squares,
                  cudaStream_t stream) const {
  const Stretch weights = {static_cast<int>(head_), static_cast<int>(arrays_.decaying)};
  launch(update_kernel, dim3(static_cast<unsigned>(parts_of_head_)), dim3(kBlock), stream, weights, weights,
         static_cast<int>(parts_of_head_), step, static_cast<float>(l2), factors, arrays_, squares);
}

void Update::rest(const StepNumber& step, double l2, const StepFactors* factors, double* squares,
                  cudaStream_t stream) const {
  const Stretch weights = {0, static_cast<int>(head_)};
  launch(update_kernel, dim3(static_cast<unsigned>(parts_of_rest_)), dim3(kBlock), stream, weights,
         others(arrays_), weights.parts(), step, static_cast<float>(l2), factors, arrays_,
         squares + parts_of_head_);
}

void end_steps(StepState* state, int64_t steps, double lambda, int64_t n, const double* losses, int64_t parts,
               const double* squares, cudaStream_t stream) {
  launch(end_steps_kernel, dim3(1), dim3(kBlock), stream, state, static_cast<int>(steps), lambda, n, losses,
         parts, squares);
}

void add_correct(int64_t n, int64_t classes, const float* logits, const int64_t* labels, int64_t* correct,
                 cudaStream_t stream) {
  const int blocks = ceil_div(n, kBlock / kWarp);
  launch(correct_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kBlock), stream, static_cast<int>(n),
         static_cast<int>(classes), logits, labels, reinterpret_cast<unsigned long long*>(correct));
}

}  // namespace mnist100::cuda
