#include "network.cuh"

#include <limits>
#include <stdexcept>
#include <string>

namespace mnist100::cuda {
namespace {

using Kind = LayerSpec::Kind;

Form output_of(const LayerSpec& layer, const Form& x) {
  switch (layer.kind) {
    case Kind::kPad:
      return {x.per_sample, x.c, x.h, x.w, layer.border_h, layer.border_w};
    case Kind::kHalves:
      return {2, x.c, x.h, x.w / 2, layer.border_h, layer.border_w};
    case Kind::kConvBlock:
      return {x.per_sample, layer.size, x.h / 2, x.w / 2, layer.border_h, layer.border_w};
    case Kind::kConvSame:
      return {x.per_sample, layer.size, x.h, x.w, layer.border_h, layer.border_w};
    case Kind::kBatchNorm:
      return {x.per_sample,   x.c,           layer.pool ? x.h / 2 : x.h, layer.pool ? x.w / 2 : x.w,
              layer.border_h, layer.border_w};
    case Kind::kUnpad:
      return {x.per_sample, x.c, x.h, x.w, 0, 0};
    case Kind::kDropout:
      return x;
    case Kind::kLinear:
    case Kind::kLinearBlock:
      return {x.per_sample, layer.size, 1, 1, 0, 0};
    case Kind::kPairLogits:
      return {1, x.c * x.c, 1, 1, 0, 0};
  }
  throw std::invalid_argument("layers: an unknown kind");
}

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("layers: ") + what);
}

void require_fit(const LayerSpec& layer, const Form& x) {
  const bool is_flat = x.bh == 0 && x.bw == 0;
  require(layer.size >= 0 && layer.border_h >= 0 && layer.border_w >= 0 && layer.p >= 0 && layer.p < 1,
          "a size, a border or a probability is out of range");
  switch (layer.kind) {
    case Kind::kPad:
      return require(x.c == 1 && is_flat, "only images of one channel are padded");
    case Kind::kHalves:
      return require(x.c == 1 && is_flat && x.per_sample == 1 && x.w % 2 == 0,
                     "only whole images have halves");
    case Kind::kConvBlock:
    case Kind::kConvSame:
      require(layer.size > 0 && layer.kernel_h % 2 == 1 && layer.kernel_w % 2 == 1, "a kernel is not odd");
      require(x.bh == layer.kernel_h / 2 && x.bw == layer.kernel_w / 2, "a border is not half the kernel");
      return require(layer.kind == Kind::kConvSame || (x.h >= 2 && x.w >= 2),
                     "an image is too small to pool");
    case Kind::kBatchNorm:
      return require(!layer.pool || (x.h >= 2 && x.w >= 2), "an image is too small to pool");
    case Kind::kUnpad:
      return;
    case Kind::kDropout:
      return require(is_flat, "only features are dropped");
    case Kind::kLinear:
    case Kind::kLinearBlock:
      return require(is_flat && layer.size > 0, "a linear layer wants features");
    case Kind::kPairLogits:
      return require(x.per_sample == 2 && x.h == 1 && x.w == 1, "only scores of halves are paired");
  }
  require(false, "an unknown kind");
}

void add_tensors(const LayerSpec& layer, const Form& x, Tensors& tensors) {
  const int64_t taps = x.c * layer.kernel_h * layer.kernel_w;
  switch (layer.kind) {
    case Kind::kConvBlock:
    case Kind::kConvSame:
      tensors.parameters.push_back({layer.size * taps, true});
      if (layer.kind == Kind::kConvBlock) tensors.parameters.push_back({layer.size, false});
      return;
    case Kind::kBatchNorm:
      tensors.parameters.push_back({x.c, false});
      tensors.parameters.push_back({x.c, false});
      tensors.buffers.push_back(x.c);
      tensors.buffers.push_back(x.c);
      return;
    case Kind::kLinear:
    case Kind::kLinearBlock:
      tensors.parameters.push_back({layer.size * x.features(), true});
      tensors.parameters.push_back({layer.size, false});
      return;
    default:
      return;
  }
}

constexpr Form kImage{1, 1, 28, 56, 0, 0};

bool learns(Kind kind) {
  return kind == Kind::kConvBlock || kind == Kind::kConvSame || kind == Kind::kBatchNorm ||
         kind == Kind::kLinear || kind == Kind::kLinearBlock;
}

bool is_linear(Kind kind) { return kind == Kind::kLinear || kind == Kind::kLinearBlock; }

// Layer i writes at once what the next one, which takes a border away, would make of its result.
bool loses_border(const std::vector<LayerSpec>& layers, size_t i) {
  return layers[i].kind == Kind::kConvBlock && i + 1 < layers.size() && layers[i + 1].kind == Kind::kUnpad;
}

}  // namespace

Tensors tensors_of(const std::vector<LayerSpec>& layers) {
  Tensors tensors;
  Form form = kImage;
  for (const LayerSpec& layer : layers) {
    require_fit(layer, form);
    add_tensors(layer, form, tensors);
    form = output_of(layer, form);
  }
  require(form.per_sample == 1 && form.h == 1 && form.w == 1, "the network does not end with logits");
  require(!tensors.parameters.empty(), "no layer learns");
  return tensors;
}

std::vector<int64_t> begin_of(const Tensors& tensors) {
  const auto& parameters = tensors.parameters;
  std::vector<int64_t> begin(parameters.size() + tensors.buffers.size());
  int64_t next = 0;
  for (bool decay : {true, false})
    for (size_t i = 0; i < parameters.size(); ++i)
      if (parameters[i].decay == decay) {
        begin[i] = next;
        next += parameters[i].size;
      }
  for (size_t i = 0; i < tensors.buffers.size(); ++i) {
    begin[parameters.size() + i] = next;
    next += tensors.buffers[i];
  }
  return begin;
}

std::vector<Places> places_of(const std::vector<LayerSpec>& layers, const std::vector<int64_t>& begin,
                              size_t parameters) {
  std::vector<Places> places;
  size_t parameter = 0, buffer = parameters;
  for (const LayerSpec& layer : layers) {
    Places at;
    switch (layer.kind) {
      case LayerSpec::Kind::kConvSame:
        at.weight = begin.at(parameter++);
        break;
      case LayerSpec::Kind::kBatchNorm:
        at.mean = begin.at(buffer++);
        at.var = begin.at(buffer++);
        [[fallthrough]];
      case LayerSpec::Kind::kConvBlock:
      case LayerSpec::Kind::kLinear:
      case LayerSpec::Kind::kLinearBlock:
        at.weight = begin.at(parameter++);
        at.bias = begin.at(parameter++);
        break;
      default:
        break;
    }
    places.push_back(at);
  }
  return places;
}

Network::Network(const std::vector<LayerSpec>& layers, const std::vector<Places>& places, int64_t most)
    : input_(kImage) {
  size_t i = 0;
  if (layers[0].kind == Kind::kPad) input_ = output_of(layers[i++], kImage);  // the images come with a border
  Form form = input_;
  for (Kept<float>& images : inputs_) images = Kept<float>(form.size(most));
  first_learning_ = layers.size();
  bool has_head = false;
  for (; i < layers.size(); ++i) {
    const bool wants_dx = first_learning_ < layers_.size();
    if (learns(layers[i].kind) && first_learning_ == layers.size()) first_learning_ = layers_.size();
    const Places& at = places[i];
    const LayerSpec& layer = layers[i];
    Form next = output_of(layer, form);
    if (loses_border(layers, i)) next = output_of(layers[++i], next);
    if (learns(layer.kind) && !is_linear(layer.kind)) has_head = false;
    if (is_linear(layer.kind) && !has_head) {
      has_head = true;
      head_ = layers_.size();
      head_begin_ = at.weight;
    }
    layers_.push_back(make_layer(layer, form, next, at, most, wants_dx));
    gradients_.emplace_back(wants_dx ? form.size(most) : 0);
    form = next;
    outputs_.emplace_back(form.size(most));
  }
  if (!has_head || head_ <= first_learning_) {
    head_ = layers_.size();
    head_begin_ = std::numeric_limits<int64_t>::max();
  }
  classes_ = form.features();
  dlogits_ = Kept<float>(most * classes_);
}

ImagePlaces Network::input_places() const {
  const PaddedShape s = input_.padded(1);
  return {static_cast<int>(s.at(0, 0, 0)), static_cast<int>(s.sample()), static_cast<int>(s.row())};
}

void Network::put_input(int64_t n, const float* x, int which, cudaStream_t stream) const {
  pad_nhwc(input_.padded(n), x, input(which), stream);
}

const float* Network::forward(const Pass& pass) {
  forward_body(pass);
  layers_.back()->forward(pass, result(pass, layers_.size() - 1), outputs_.back().get());
  return outputs_.back().get();
}

void Network::forward_body(const Pass& pass) {
  for (size_t i = 0; i + 1 < layers_.size(); ++i)
    layers_[i]->forward(pass, result(pass, i), outputs_[i].get());
}

void Network::lose(const Pass& pass, const Labels& labels) {
  const size_t last = layers_.size() - 1;
  const float* const x = result(pass, last);
  float *const logits = outputs_[last].get(), *const dx = gradients_[last].get();
  const LinearMask mask = last > 0 ? layers_[last - 1]->mask(x) : LinearMask{};
  has_last_dx_ = last > first_learning_ && layers_[last]->lose(pass, x, mask, labels, dlogits_.get(), dx);
  if (has_last_dx_) return;
  layers_[last]->forward(pass, x, logits);
  cross_entropy_rows(pass.n, classes_, logits, labels.labels, dlogits_.get(), labels.losses, pass.stream);
}

// Of the last layer, whose input has its gradient already.
void Network::last_backward(const Pass& pass) {
  const size_t last = layers_.size() - 1;
  pass.branch->run(pass.stream, [&](cudaStream_t beside) {
    Pass apart = pass;
    apart.stream = Queue(beside, pass.stream.precision);
    layers_[last]->backward(apart, dlogits_.get(), result(pass, last), result_of(last), nullptr);
  });
}

// Of layer i, for its backward pass; null if what follows has masked its gradient already.
const float* Network::result_of(size_t i) const {
  return has_last_dx_ && i + 2 == layers_.size() ? nullptr : outputs_[i].get();
}

const float* Network::result(const Pass& pass, size_t i) const {
  return i == 0 ? input(pass.images) : outputs_[i - 1].get();
}

void Network::backward(const Pass& pass, const std::function<void()>& update_head) {
  const float* dy = dlogits_.get();
  for (size_t i = layers_.size(); i-- > first_learning_;) {
    float* const dx = i > first_learning_ ? gradients_[i].get() : nullptr;
    if (i + 1 == layers_.size() && has_last_dx_)
      last_backward(pass);
    else
      layers_[i]->backward(pass, dy, result(pass, i), result_of(i), dx);
    if (i == head_) pass.branch->mark();
    dy = dx;
  }
  if (head_ < layers_.size()) {
    pass.branch->await_mark(pass.stream);
    update_head();
  }
  pass.branch->join(pass.stream);
}

}  // namespace mnist100::cuda
