// A network whose activations and parameters lie in the GPU's memory.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "device_memory.cuh"
#include "engine.h"
#include "graph.cuh"
#include "ops.cuh"

namespace mnist100::cuda {

// What a pass over n samples is made with. Arrays of tensors begin at the same places in all three.
struct Pass {
  int64_t n;
  const float* values;
  float* buffers;  // null: in evaluation; else running statistics move, in the backward pass
  float* grads;
  bool training;    // batch normalisation by the batch's own statistics, dropout
  StepNumber step;  // of random draws
  Queue stream;
  Branch* branch;  // of the backward pass, which it joins at its end
  int images;      // which of the network's inputs

  // Launches a layer's weight gradients: beside its input gradient, or, there being none, after what the main
  // stream has. `launch` gets the queue.
  template <class Launch>
  void run_beside(bool has_dx, Launch launch) const {
    if (has_dx)
      branch->run(stream, [&](cudaStream_t beside) { launch(Queue(beside, stream.precision)); });
    else
      launch(stream);
  }
};

// What passes from layer to layer: padded NHWC images, or NCHW images or features, without a border.
struct Form {
  int64_t per_sample;  // images in a sample: 2 between Halves and PairLogits
  int64_t c, h, w, bh, bw;
  int64_t features() const { return c * h * w; }
  PaddedShape padded(int64_t n) const { return {n * per_sample, c, h, w, bh, bw}; }
  int64_t size(int64_t n) const { return padded(n).n * padded(n).sample(); }
};

// Where a layer's tensors begin in the arrays of a Pass.
struct Places {
  int64_t weight = 0, bias = 0, mean = 0, var = 0;
};

// The tensors of a network, in the order of its layers.
struct Tensors {
  struct Parameter {
    int64_t size;
    bool decay;  // L2 and decoupled decay apply
  };
  std::vector<Parameter> parameters;
  std::vector<int64_t> buffers;
};
// Throws std::invalid_argument if the layers do not fit one another.
Tensors tensors_of(const std::vector<LayerSpec>&);
// Where each of them begins in the one array of all: parameters with decay come first, then the others, then
// buffers. In the order of `Tensors`, parameters before buffers.
std::vector<int64_t> begin_of(const Tensors&);
// The same by layers.
std::vector<Places> places_of(const std::vector<LayerSpec>&, const std::vector<int64_t>& begin,
                              size_t parameters);

// Of the samples of a pass, and where the loss of each goes.
struct Labels {
  const int64_t* labels;
  double* losses;
};

class DeviceLayer {
 public:
  virtual ~DeviceLayer() = default;
  virtual void forward(const Pass&, const float* x, float* y) = 0;
  // dx is null where nothing before this layer learns.
  virtual void backward(const Pass&, const float* dy, const float* x, const float* y, float* dx) = 0;
  // Of a network's last layer, whose result are logits: the losses (n), the gradients at them, and the masked
  // one at x, if the layer can make all that at once; else false, and nothing is done.
  virtual bool lose(const Pass&, const float* /*x*/, const LinearMask&, const Labels&, float* /*dy*/,
                    float* /*dx*/) {
    return false;
  }
  // What the layer's backward pass begins with: the mask of the gradient at its result y. A layer whose y is
  // null gets a gradient that is masked.
  virtual LinearMask mask(const float* /*y*/) const { return {}; }
  // Of batch normalisation alone: mean and variance (2,channels) of the last batch in training, and how many
  // values they are of.
  virtual const float* statistics() const { return nullptr; }
  virtual int64_t channels() const { return 0; }
  virtual int64_t values_of_channel(int64_t /*n*/) const { return 0; }
};

// A layer from x to y; the passes have at most `most` samples. A convolution may be asked for `y` without the
// border that its specification has. wants_dx: something before it learns.
std::unique_ptr<DeviceLayer> make_layer(const LayerSpec&, const Form& x, const Form& y, const Places&,
                                        int64_t most, bool wants_dx);

class Network {
 public:
  // `places` of each layer in turn. Passes have at most `most` samples of (28,56).
  Network(const std::vector<LayerSpec>&, const std::vector<Places>&, int64_t most);

  int64_t classes() const { return classes_; }
  const std::vector<std::unique_ptr<DeviceLayer>>& layers() const { return layers_; }
  // Where images (n,28,56) go before a pass, and how they lie there: there is room for those of two passes.
  float* input(int which) const { return inputs_[which].get(); }
  ImagePlaces input_places() const;
  void put_input(int64_t n, const float* x, int which, cudaStream_t) const;
  const float* forward(const Pass&);  // logits (n,classes)
  // The same in two steps for a pass that learns: all layers but the last; then that one, and the losses.
  void forward_body(const Pass&);
  void lose(const Pass&, const Labels&);
  // After `lose`. update_head(): last of all on the main stream, where the gradients of the linear layers
  // behind all others that learn are there. Not called if they are all that learns, or there are none.
  void backward(const Pass&, const std::function<void()>& update_head);
  // Where the weights of those layers begin; beyond all tensors if it is never.
  int64_t head() const { return head_begin_; }

 private:
  const float* result(const Pass&, size_t i) const;  // of the layers before layer i
  const float* result_of(size_t i) const;
  void last_backward(const Pass&);

  std::vector<std::unique_ptr<DeviceLayer>> layers_;
  Kept<float> inputs_[2];
  std::vector<Kept<float>> outputs_;    // of layer i
  std::vector<Kept<float>> gradients_;  // of the input of layer i
  Form input_;
  Kept<float> dlogits_;
  size_t first_learning_ = 0;
  size_t head_ = 0;  // the first linear layer behind all others that learn, or the number of layers
  int64_t head_begin_ = 0;
  int64_t classes_ = 0;
  bool has_last_dx_ = false;  // since `lose`
};

}  // namespace mnist100::cuda
