// What an Engine has in the GPU's memory, and the steps that it takes there.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "engine.h"
#include "graph.cuh"
#include "network.cuh"
#include "shuffle.cuh"
#include "steps.cuh"

namespace mnist100::cuda {

constexpr int64_t kEvaluated = 1024;   // samples of a batch of an evaluation
constexpr int64_t kStepsOfGraph = 32;  // between two graphs a GPU does nothing for as long as a kernel takes

inline void copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  check(cudaMemcpyAsync(to, from, bytes, kind, stream), "copying arrays");
}

struct PairsOnDevice {
  int64_t digits, count;
  Kept<uint8_t> images, labels;
  Kept<int32_t> pairs;
};

struct Engine::Parts {
  Parts(const std::vector<LayerSpec>& layers, const Tensors& tensors, const TrainingSpec& training_)
      : training(training_),
        count_parameters(tensors.parameters.size()),
        begin(begin_of(tensors)),
        network(layers, places_of(layers, begin, count_parameters),
                std::max(training_.batch_size, kEvaluated)) {
    for (const Tensors::Parameter& parameter : tensors.parameters) {
      sizes.push_back(parameter.size);
      learning += parameter.size;
      if (parameter.decay) decaying += parameter.size;
    }
    all = learning;
    for (int64_t size : tensors.buffers) {
      sizes.push_back(size);
      all += size;
    }
  }

  TensorArrays arrays() const {
    return {decaying,    learning, all,     values.get(),
            grads.get(), m.get(),  v.get(), training.average_decay > 0 ? average.get() : nullptr};
  }

  float* array(Values which) const {
    switch (which) {
      case Values::kWeights:
        return values.get();
      case Values::kAdamM:
        return m.get();
      case Values::kAdamV:
        return v.get();
      case Values::kAverage:
        return average.get();
      case Values::kEvaluated:
        return evaluated.get();
    }
    return nullptr;
  }

  size_t tensors_of(Values which) const {
    return which == Values::kAdamM || which == Values::kAdamV ? count_parameters : sizes.size();
  }

  Pass evaluation_pass(int64_t n, bool training_mode) const {
    return {n, evaluated.get(), nullptr, nullptr, training_mode, {&state.get()->step}, queue(), nullptr, 0};
  }

  Queue queue() const { return {stream.at, training.precision}; }

  void wait() { check(cudaStreamSynchronize(stream.at), "running the network"); }

  void draw(int64_t epoch, int32_t* pairs, int64_t* to, cudaStream_t on);
  void make_pairs(int64_t epoch);
  void take_prepared();
  void prepare(int64_t epoch);
  void enqueue_input(int64_t i, int64_t n, bool augmented, cudaStream_t on);
  void enqueue_step(int64_t i, int64_t n, const std::function<void()>& before_loss);
  void enqueue_steps(int64_t steps, int64_t n, bool augmented);
  void take_steps(int64_t steps, int64_t n, bool augmented);
  const float* evaluate(int set, int64_t first, int64_t n, bool training_mode);

  OwnStream stream, drawing;
  OwnEvent drawn;
  TrainingSpec training;
  size_t count_parameters;
  std::vector<int64_t> sizes, begin;
  int64_t decaying = 0, learning = 0, all = 0;
  Workspace workspace;
  Network network;
  Branch branch;
  std::optional<Update> update;
  Kept<float> values, grads, m, v, average, evaluated, mean, inv_std;
  Kept<StepFactors> factors;
  Kept<double> losses, squares;
  Kept<StepState> state;
  Kept<int64_t> order, labels[2], correct;  // labels beside the network's inputs
  Kept<int64_t> next_order;                 // and pairs, of next_epoch
  Kept<int32_t> next_pairs;
  int64_t next_epoch = -1;
  std::vector<PairsOnDevice> sets;
  std::set<std::pair<int64_t, bool>> known;  // sizes and augmentation of steps that have been taken
  std::map<std::tuple<int64_t, int64_t, bool>, std::unique_ptr<Graph>>
      graphs;  // by the arguments of take_steps
};

}  // namespace mnist100::cuda
