// What changes from step to step, in the GPU's memory: a captured graph is the same for all of them.
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

struct StepState {
  uint64_t step;         // of the optimiser, from 1; the key of dropout's draws
  uint64_t epoch;        // the key of the augmentation's
  int64_t first;         // row of the epoch's order with which the batch begins
  double loss_sum;       // of the epoch so far, each step's loss times its samples
  double cross_entropy;  // of this step
  double squares;        // the sum of squared weights before it
};

// Tensors in one array: those with decay, `decaying` elements, then the other parameters, `learning` in all,
// then buffers.
struct TensorArrays {
  int64_t decaying, learning, all;
  float *values, *grads, *m, *v, *average;  // average null: none
};

// Adam for all parameters at the rate of this step, then the average of all tensors.
void update_tensors(const StepState*, const TensorArrays&, const AdamParams&, double average_decay,
                    const double* rates, int64_t n, cudaStream_t);
// Adds this step's loss, lambda / (2 * n) * squares included, and goes on to the next.
void end_step(StepState*, double lambda, int64_t n, cudaStream_t);
// *correct += how many rows of logits (n,classes) are largest at their label, the first of equals counting.
void add_correct(int64_t n, int64_t classes, const float* logits, const int64_t* labels, int64_t* correct,
                 cudaStream_t);

}  // namespace mnist100::cuda
