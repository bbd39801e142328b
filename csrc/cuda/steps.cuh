// What changes from step to step, in the GPU's memory: a captured graph is the same for all of them.
#pragma once

#include <vector>

#include "adam.cuh"
#include "ops.cuh"

namespace mnist100::cuda {

// Of the first of the steps that a graph takes.
struct StepState {
  uint64_t step;    // of the optimiser, from 1; the key of dropout's draws
  uint64_t epoch;   // the key of the augmentation's
  int64_t first;    // row of the epoch's order with which the batch begins
  double loss_sum;  // of the epoch so far, each step's loss times its samples
};

// What a step makes of Adam and of the average; the L2 of weights is added by the batch's size.
struct StepFactors {
  AdamFactors adam;
  float average_gain;
};

// Of steps 1 to the number of rates.
std::vector<StepFactors> step_factors(const AdamParams&, double average_decay,
                                      const std::vector<double>& rates);

// Tensors in one array: those with decay, `decaying` elements, then the other parameters, `learning` in all,
// then buffers.
struct TensorArrays {
  int64_t decaying, learning, all;
  float *values, *grads, *m, *v, *average;  // average null: none
};

// Adam for parameters by the factors of a step, then the average of tensors; the squares of weights before it
// are summed in parts. In two calls: of the weights from `head` on, rounded up to 16 bytes, and of all else.
class Update {
 public:
  Update(const TensorArrays&, int64_t head);
  int64_t parts() const { return parts_of_head_ + parts_of_rest_; }  // of the squares of a step
  void head(const StepNumber&, double l2, const StepFactors*, double* squares, cudaStream_t) const;
  void rest(const StepNumber&, double l2, const StepFactors*, double* squares, cudaStream_t) const;

 private:
  TensorArrays arrays_;
  int64_t head_, parts_of_head_, parts_of_rest_;
};
// Adds the losses of `steps` steps, of each the mean of its `losses` (n) and lambda / (2 * n) * its squares,
// and goes on behind them.
void end_steps(StepState*, int64_t steps, double lambda, int64_t n, const double* losses, int64_t parts,
               const double* squares, cudaStream_t);
// *correct += how many rows of logits (n,classes) are largest at their label, the first of equals counting.
void add_correct(int64_t n, int64_t classes, const float* logits, const int64_t* labels, int64_t* correct,
                 cudaStream_t);

}  // namespace mnist100::cuda
