#include "engine.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "graph.cuh"
#include "network.cuh"
#include "shuffle.cuh"
#include "steps.cuh"

namespace mnist100::cuda {
namespace {

constexpr int64_t kEvaluated = 1024;    // samples of a batch of an evaluation
constexpr int64_t kOfStatistics = 256;  // and of the statistics
constexpr int64_t kStepsOfGraph = 32;   // between two graphs a GPU does nothing for as long as a kernel takes

void copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  check(cudaMemcpyAsync(to, from, bytes, kind, stream), "copying arrays");
}

template <class T>
Kept<T> on_device(const T* from, int64_t size, cudaStream_t stream) {
  Kept<T> kept(size);
  if (size == 0) return kept;
  copy(kept.get(), from, static_cast<size_t>(size) * sizeof(T), cudaMemcpyHostToDevice, stream);
  return kept;
}

struct PairsOnDevice {
  int64_t digits, count;
  Kept<uint8_t> images, labels;
  Kept<int32_t> pairs;
};

}  // namespace

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

// The pairs of an epoch and their order.
void Engine::Parts::draw(int64_t epoch, int32_t* pairs, int64_t* to, cudaStream_t on) {
  const PairsOnDevice& train = sets.at(0);
  const uint64_t step = static_cast<uint64_t>(epoch);
  if (training.fresh_pairs)
    pair_digits(train.digits, training.repeats,
                {training.pairing_seed, step * static_cast<uint64_t>(training.repeats)}, pairs, on);
  permutation(train.count, {training.shuffle_seed, step}, to, on);
}

void Engine::Parts::make_pairs(int64_t epoch) {
  PairsOnDevice& train = sets.at(0);
  if (order.size() == 0) {
    order = Kept<int64_t>(train.count);
    next_order = Kept<int64_t>(train.count);
    next_pairs = Kept<int32_t>(2 * train.count);
  }
  if (epoch != next_epoch) return draw(epoch, train.pairs.get(), order.get(), stream.at);
  drawn.order(drawing.at, stream.at);
  copy(order.get(), next_order.get(), static_cast<size_t>(train.count) * sizeof(int64_t),
       cudaMemcpyDeviceToDevice, stream.at);
  if (training.fresh_pairs)
    copy(train.pairs.get(), next_pairs.get(), static_cast<size_t>(2 * train.count) * sizeof(int32_t),
         cudaMemcpyDeviceToDevice, stream.at);
}

// While the accuracies of this epoch are measured.
void Engine::Parts::prepare(int64_t epoch) {
  drawn.order(stream.at, drawing.at);
  draw(epoch, next_pairs.get(), next_order.get(), drawing.at);
  next_epoch = epoch;
}

// Of the i-th step from the present state on.
void Engine::Parts::enqueue_input(int64_t i, int64_t n, bool augmented, cudaStream_t on) {
  const PairsOnDevice& train = sets.at(0);
  StepState* const now = state.get();
  InputParams input = training.augmentation;
  if (!augmented) {
    input = {};
    input.clip = training.augmentation.clip;
  }
  const BatchRows rows{nullptr, i * n, &now->first, order.get(), train.labels.get(), labels[i % 2].get()};
  input_batch(n, input, {training.augmentation_seed, {&now->epoch}}, train.images.get(), train.pairs.get(),
              rows, mean.get(), inv_std.get(), network.input(static_cast<int>(i % 2)), network.input_places(),
              on);
}

void Engine::Parts::enqueue_step(int64_t i, int64_t n, const std::function<void()>& before_loss) {
  const StepNumber step{&state.get()->step, static_cast<uint64_t>(i)};
  const int images = static_cast<int>(i % 2);
  const Pass pass{n, values.get(), values.get(), grads.get(), true, step, queue(), &branch, images};
  network.forward_body(pass);
  before_loss();
  network.lose(pass, {labels[images].get(), losses.get() + i * n});
  const double l2 = training.adam.l2 / static_cast<double>(n);
  network.backward(pass);
  update_tensors(step, arrays(), l2, factors.get(), squares.get() + i * square_parts(arrays()), stream.at);
}

// The images of each step but the first are made beside the last layers of the step before it, which leave
// most of a GPU idle.
void Engine::Parts::enqueue_steps(int64_t steps, int64_t n, bool augmented) {
  enqueue_input(0, n, augmented, stream.at);
  for (int64_t i = 0; i < steps; ++i)
    enqueue_step(i, n, [&] {
      if (i + 1 == steps) return;
      branch.run(stream.at, [&](cudaStream_t beside) { enqueue_input(i + 1, n, augmented, beside); });
    });
  end_steps(state.get(), steps, training.adam.l2, n, losses.get(), square_parts(arrays()), squares.get(),
            stream.at);
}

// The first steps of a kind are taken as they are, and find out how much memory a graph of them needs.
void Engine::Parts::take_steps(int64_t steps, int64_t n, bool augmented) {
  const Workspace::Use use(workspace);
  const auto enqueue = [&] { enqueue_steps(steps, n, augmented); };
  if (known.insert({n, augmented}).second) return enqueue();
  std::unique_ptr<Graph>& graph = graphs[{steps, n, augmented}];
  if (!graph) graph = std::make_unique<Graph>(stream.at, enqueue);
  graph->launch(stream.at);
}

// Leaves the labels in labels[0].
const float* Engine::Parts::evaluate(int set, int64_t first, int64_t n, bool training_mode) {
  const PairsOnDevice& of = sets.at(static_cast<size_t>(set));
  InputParams input = {};
  input.clip = training.augmentation.clip;
  const BatchRows rows{nullptr, first, nullptr, nullptr, of.labels.get(), labels[0].get()};
  input_batch(n, input, Stream{0, 0}, of.images.get(), of.pairs.get(), rows, mean.get(), inv_std.get(),
              network.input(0), network.input_places(), stream.at);
  return network.forward(evaluation_pass(n, training_mode));
}

Engine::Engine(const std::vector<LayerSpec>& layers, const TrainingSpec& training, const float* mean,
               const float* inv_std)
    : parts_(std::make_unique<Parts>(layers, cuda::tensors_of(layers), training)) {
  Parts& p = *parts_;
  constexpr int64_t kPixels = 28 * 56;
  p.values = Kept<float>(p.all);
  p.grads = Kept<float>(p.learning);
  p.m = Kept<float>(p.learning);
  p.v = Kept<float>(p.learning);
  p.average = Kept<float>(p.all);
  p.evaluated = Kept<float>(p.all);
  p.mean = on_device(mean, kPixels, p.stream.at);
  p.inv_std = on_device(inv_std, kPixels, p.stream.at);
  const std::vector<StepFactors> factors =
      step_factors(training.adam, training.average_decay, training.rates);
  p.factors = on_device(factors.data(), static_cast<int64_t>(factors.size()), p.stream.at);
  p.squares = Kept<double>(kStepsOfGraph * square_parts(p.arrays()));
  p.state = Kept<StepState>(1);
  const int64_t most = std::max(training.batch_size, kEvaluated);
  p.losses = Kept<double>(kStepsOfGraph * training.batch_size);
  for (Kept<int64_t>& labels : p.labels) labels = Kept<int64_t>(most);
  p.correct = Kept<int64_t>(1);
  p.wait();
}

Engine::~Engine() = default;

int Engine::add_pairs(const DigitTable& digits, int64_t count, const int32_t* pairs) {
  const cudaStream_t stream = parts_->stream.at;
  parts_->sets.push_back({digits.count, count, on_device(digits.images, digits.count * 28 * 28, stream),
                          on_device(digits.labels, digits.count, stream),
                          on_device(pairs, 2 * count, stream)});
  parts_->wait();
  return static_cast<int>(parts_->sets.size()) - 1;
}

int64_t Engine::size_of(Values which) const {
  return which == Values::kAdamM || which == Values::kAdamV ? parts_->learning : parts_->all;
}

void Engine::read(Values which, float* to) {
  const float* const from = parts_->array(which);
  for (size_t i = 0; i < parts_->tensors_of(which); ++i) {
    const size_t bytes = static_cast<size_t>(parts_->sizes[i]) * sizeof(float);
    copy(to, from + parts_->begin[i], bytes, cudaMemcpyDeviceToHost, parts_->stream.at);
    to += parts_->sizes[i];
  }
  parts_->wait();
}

void Engine::write(Values which, const float* from) {
  float* const to = parts_->array(which);
  for (size_t i = 0; i < parts_->tensors_of(which); ++i) {
    const size_t bytes = static_cast<size_t>(parts_->sizes[i]) * sizeof(float);
    copy(to + parts_->begin[i], from, bytes, cudaMemcpyHostToDevice, parts_->stream.at);
    from += parts_->sizes[i];
  }
  parts_->wait();
}

double Engine::train_epoch(int64_t epoch, int64_t first_step, int64_t steps_before, double loss_sum,
                           bool augmented) {
  Parts& p = *parts_;
  const int64_t batch = p.training.batch_size, count = p.sets.at(0).count;
  const int64_t last_step = steps_before + ceil_div(count, batch);
  if (epoch < 0 || first_step < 0 || steps_before < 0 || last_step > p.factors.size())
    throw std::invalid_argument("train_epoch: a step has no rate");
  StepState start = {};
  start.step = static_cast<uint64_t>(steps_before + first_step + 1);
  start.epoch = static_cast<uint64_t>(epoch);
  start.first = first_step * batch;
  start.loss_sum = loss_sum;
  copy(p.state.get(), &start, sizeof start, cudaMemcpyHostToDevice, p.stream.at);
  p.make_pairs(epoch);
  // Single steps come first: a GPU has them to do while a large graph is launched.
  for (int64_t first = start.first; first < count;) {
    const int64_t n = std::min(batch, count - first), left = (count - first) / batch;
    const int64_t steps = left > 0 && left % kStepsOfGraph == 0 ? kStepsOfGraph : 1;
    p.take_steps(steps, n, augmented);
    first += steps * n;
  }
  copy(&start, p.state.get(), sizeof start, cudaMemcpyDeviceToHost, p.stream.at);
  p.prepare(epoch + 1);
  p.wait();
  return start.loss_sum;
}

void Engine::begin_evaluation() {
  Parts& p = *parts_;
  const float* const from = p.training.average_decay > 0 ? p.average.get() : p.values.get();
  copy(p.evaluated.get(), from, static_cast<size_t>(p.all) * sizeof(float), cudaMemcpyDeviceToDevice,
       p.stream.at);
  p.wait();
}

Engine::Statistics Engine::statistics(int set, int64_t first, int64_t n) {
  Parts& p = *parts_;
  if (first < 0 || n < 1 || n > kOfStatistics || first > p.sets.at(static_cast<size_t>(set)).count - n)
    throw std::invalid_argument("statistics: rows that there are not");
  p.evaluate(set, first, n, true);
  Statistics found;
  for (const std::unique_ptr<DeviceLayer>& layer : p.network.layers()) {
    if (!layer->statistics()) continue;
    found.counts.push_back(layer->values_of_channel(n));
    const size_t before = found.values.size(), size = static_cast<size_t>(2 * layer->channels());
    found.values.resize(before + size);
    copy(found.values.data() + before, layer->statistics(), size * sizeof(float), cudaMemcpyDeviceToHost,
         p.stream.at);
    p.wait();  // the vector moves when it grows
  }
  return found;
}

DeviceArray Engine::logits(const DeviceArray& x) {
  Parts& p = *parts_;
  constexpr int64_t kPixels = 28 * 56;
  const int64_t count = x.size() / kPixels, classes = p.network.classes();
  if (x.size() != count * kPixels) throw std::invalid_argument("x: wants images of 28x56 pixels");
  DeviceArray found = empty_array({count, classes});
  for (int64_t first = 0; first < count; first += kEvaluated) {
    const int64_t n = std::min(kEvaluated, count - first);
    p.network.put_input(n, x.data + first * kPixels, 0, p.stream.at);
    const float* const logits = p.network.forward(p.evaluation_pass(n, false));
    copy(found.data + first * classes, logits, static_cast<size_t>(n * classes) * sizeof(float),
         cudaMemcpyDeviceToDevice, p.stream.at);
  }
  p.wait();
  return found;
}

std::vector<DeviceArray> Engine::arrays(Values which, const std::shared_ptr<Engine>& engine) {
  const Parts& p = *engine->parts_;
  std::vector<DeviceArray> found;
  for (size_t i = 0; i < p.tensors_of(which); ++i)
    found.push_back({engine, p.array(which) + p.begin[i], {p.sizes[i]}});
  return found;
}

int64_t Engine::count_correct(int set) {
  Parts& p = *parts_;
  const int64_t count = p.sets.at(static_cast<size_t>(set)).count;
  zero(p.correct.get(), 1, p.stream.at);
  for (int64_t first = 0; first < count; first += kEvaluated) {
    const int64_t n = std::min(kEvaluated, count - first);
    const float* const logits = p.evaluate(set, first, n, false);
    add_correct(n, p.network.classes(), logits, p.labels[0].get(), p.correct.get(), p.stream.at);
  }
  int64_t correct = 0;
  copy(&correct, p.correct.get(), sizeof correct, cudaMemcpyDeviceToHost, p.stream.at);
  p.wait();
  return correct;
}

}  // namespace mnist100::cuda
