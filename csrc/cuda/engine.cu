#include "engine.h"

#include <stdexcept>

#include "engine_parts.cuh"

namespace mnist100::cuda {
namespace {

constexpr int64_t kOfStatistics = 256;  // samples of a batch of statistics

template <class T>
Kept<T> on_device(const T* from, int64_t size, cudaStream_t stream) {
  Kept<T> kept(size);
  if (size == 0) return kept;
  copy(kept.get(), from, static_cast<size_t>(size) * sizeof(T), cudaMemcpyHostToDevice, stream);
  return kept;
}

}  // namespace

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
  p.update.emplace(p.arrays(), p.network.head());
  p.squares = Kept<double>(kStepsOfGraph * p.update->parts());
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
  p.prepare(epoch + 1);
  copy(&start, p.state.get(), sizeof start, cudaMemcpyDeviceToHost, p.stream.at);
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
