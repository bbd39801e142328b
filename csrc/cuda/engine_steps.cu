#include "engine_parts.cuh"

namespace mnist100::cuda {

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
  if (next_pairs.size() == 0) {
    order = Kept<int64_t>(train.count);
    next_order = Kept<int64_t>(train.count);
    next_pairs = Kept<int32_t>(2 * train.count);
  }
  drawn.order(drawing.at, stream.at);
  if (epoch == next_epoch)
    take_prepared();
  else
    draw(epoch, train.pairs.get(), order.get(), stream.at);
  drawn.order(stream.at, drawing.at);  // `prepare` writes what was just copied
}

void Engine::Parts::take_prepared() {
  const PairsOnDevice& train = sets.at(0);
  copy(order.get(), next_order.get(), static_cast<size_t>(train.count) * sizeof(int64_t),
       cudaMemcpyDeviceToDevice, stream.at);
  if (training.fresh_pairs)
    copy(train.pairs.get(), next_pairs.get(), static_cast<size_t>(2 * train.count) * sizeof(int32_t),
         cudaMemcpyDeviceToDevice, stream.at);
}

// Beside the steps of the epoch before.
void Engine::Parts::prepare(int64_t epoch) {
  next_epoch = -1;
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
  double* const squares_of_step = squares.get() + i * update->parts();
  network.backward(pass, [&] { update->head(step, l2, factors.get(), squares_of_step, stream.at); });
  update->rest(step, l2, factors.get(), squares_of_step, stream.at);
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
  end_steps(state.get(), steps, training.adam.l2, n, losses.get(), update->parts(), squares.get(), stream.at);
}

// The first steps of a kind are taken as they are, and find out how much memory a graph of them needs.
void Engine::Parts::take_steps(int64_t steps, int64_t n, bool augmented) {
  const Workspace::Use use(workspace);
  const auto enqueue = [&] { enqueue_steps(steps, n, augmented); };
  if (!known.contains({n, augmented})) {
    enqueue();
    known.insert({n, augmented});
    return;
  }
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

}  // namespace mnist100::cuda
