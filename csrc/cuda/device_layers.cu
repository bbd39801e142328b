#include <stdexcept>

#include "network.cuh"

namespace mnist100::cuda {
namespace {

class Unpad : public DeviceLayer {
 public:
  explicit Unpad(const Form& x) : x_(x) {}
  void forward(const Pass& pass, const float* x, float* y) override {
    unpad_nhwc(x_.padded(pass.n), x, y, pass.stream);
  }
  void backward(const Pass& pass, const float* dy, const float*, const float*, float* dx) override {
    pad_nhwc(x_.padded(pass.n), dy, dx, pass.stream);
  }

 private:
  Form x_;
};

class SplitHalves : public DeviceLayer {
 public:
  explicit SplitHalves(const Form& y) : y_(y) {}
  void forward(const Pass& pass, const float* x, float* y) override {
    split_halves(y_.padded(pass.n), x, y, pass.stream);
  }
  void backward(const Pass& pass, const float* dy, const float*, const float*, float* dx) override {
    join_halves(y_.padded(pass.n), dy, dx, pass.stream);
  }

 private:
  Form y_;
};

int64_t size_of_dense(ConvSameShape s, int64_t images) {
  s.n = images;
  return images * dense_of(s).sample();
}

class ConvBlock : public DeviceLayer {
 public:
  ConvBlock(const Form& x, const LayerSpec& layer, const Form& y, const Places& at, int64_t most,
            bool wants_dx)
      : shape_{0, x.c, x.h, x.w, layer.size, layer.kernel_h, layer.kernel_w, layer.border_h, layer.border_w},
        at_(at),
        places_(y.bh == layer.border_h && y.bw == layer.border_w ? PooledPlaces::padded(y.padded(1))
                                                                 : PooledPlaces::planes(y.padded(1))),
        argmax_(most * x.per_sample * layer.size * (x.h / 2) * (x.w / 2)),
        dense_(wants_dx ? size_of_dense(same_shape(shape_), most * x.per_sample) : 0),
        per_sample_(x.per_sample) {}
  void forward(const Pass& pass, const float* x, float* y) override {
    conv_block(shape(pass), x, pass.values + at_.weight, pass.values + at_.bias, places_, y, argmax_.get(),
               true, pass.stream);
  }
  void backward(const Pass& pass, const float* dy, const float* x, const float*, float* dx) override {
    const ConvBlockShape s = shape(pass);
    const float* const w = pass.values + at_.weight;
    const bool spread = dx && !has_pooled_bands(s, pass.stream.precision);
    if (spread) spread_pooled(s, dy, places_, argmax_.get(), dense_.get(), pass.stream);
    pass.run_beside(dx, [&](const Queue& queue) {
      float *const dw = pass.grads + at_.weight, *const db = pass.grads + at_.bias;
      if (spread)
        dense_weight_gradient(same_shape(s), dense_.get(), x, dw, db, queue);
      else
        pooled_weight_gradient(s, dy, places_, x, argmax_.get(), dw, db, queue);
    });
    if (!dx || (!spread && pooled_input_gradient(s, dy, places_, argmax_.get(), w, dx, pass.stream))) return;
    if (!spread) spread_pooled(s, dy, places_, argmax_.get(), dense_.get(), pass.stream);
    dense_input_gradient(same_shape(s), dense_.get(), w, dx, pass.stream);
  }

 private:
  ConvBlockShape shape(const Pass& pass) const {
    ConvBlockShape s = shape_;
    s.n = pass.n * per_sample_;
    return s;
  }
  ConvBlockShape shape_;
  Places at_;
  PooledPlaces places_;
  Kept<uint8_t> argmax_;
  Kept<float> dense_;
  int64_t per_sample_;
};

// Without bias or ReLU: a normalisation follows.
class ConvSame : public DeviceLayer {
 public:
  ConvSame(const Form& x, const LayerSpec& layer, const Places& at, int64_t most)
      : shape_{0, x.c, x.h, x.w, layer.size, layer.kernel_h, layer.kernel_w, layer.border_h, layer.border_w},
        at_(at),
        dense_(size_of_dense(shape_, most * x.per_sample)),
        per_sample_(x.per_sample) {}
  void forward(const Pass& pass, const float* x, float* y) override {
    conv_same(shape(pass), x, pass.values + at_.weight, nullptr, false, y, pass.stream);
  }
  void backward(const Pass& pass, const float* dy, const float* x, const float*, float* dx) override {
    const ConvSameShape s = shape(pass);
    spread_same(s, dy, nullptr, dense_.get(), pass.stream);
    pass.run_beside(dx, [&](const Queue& queue) {
      dense_weight_gradient(s, dense_.get(), x, pass.grads + at_.weight, nullptr, queue);
    });
    if (dx) dense_input_gradient(s, dense_.get(), pass.values + at_.weight, dx, pass.stream);
  }

 private:
  ConvSameShape shape(const Pass& pass) const {
    ConvSameShape s = shape_;
    s.n = pass.n * per_sample_;
    return s;
  }
  ConvSameShape shape_;
  Places at_;
  Kept<float> dense_;
  int64_t per_sample_;
};

constexpr double kEps = 1e-5;      // EPS of mnist100.functional.normalisation
constexpr float kMomentum = 0.1f;  // MOMENTUM of mnist100.batch_norm

__global__ void invert_deviation(int channels, const float* var, float* inv_std) {
  await_previous();
  const int c = element();
  if (c < channels) inv_std[c] = static_cast<float>(1.0 / sqrt(static_cast<double>(var[c]) + kEps));
}

// Towards the batch's statistics, the variance unbiased.
__global__ void move_running(int channels, float unbiased, const float* of_batch, float* mean, float* var) {
  await_previous();
  const int c = element();
  if (c >= channels) return;
  mean[c] += kMomentum * (of_batch[c] - mean[c]);
  var[c] += kMomentum * (of_batch[channels + c] * unbiased - var[c]);
}

class BatchNorm : public DeviceLayer {
 public:
  BatchNorm(const Form& x, const LayerSpec& layer, const Places& at, int64_t most)
      : shape_{0, x.c, x.h, x.w, x.bh, x.bw, layer.border_h, layer.border_w, layer.pool},
        at_(at),
        statistics_(2 * x.c),
        inv_std_(x.c),
        argmax_(layer.pool ? most * x.per_sample * x.c * (x.h / 2) * (x.w / 2) : 0),
        per_sample_(x.per_sample) {}

  void forward(const Pass& pass, const float* x, float* y) override {
    const BatchNormShape s = shape(pass);
    float* const mean = statistics_.get();
    if (pass.training) batch_norm_stats(s.x(), x, mean, mean + s.c, pass.stream);
    const float* const var = pass.training ? mean + s.c : pass.values + at_.var;
    launch_elements(invert_deviation, s.c, pass.stream, static_cast<int>(s.c), var, inv_std_.get());
    batch_norm_relu(s, x, params(pass, pass.training ? mean : pass.values + at_.mean), y, argmax_.get(),
                    pass.stream);
  }

  void backward(const Pass& pass, const float* dy, const float* x, const float*, float* dx) override {
    const BatchNormShape s = shape(pass);
    batch_norm_relu_backward(s, dy, x, argmax_.get(), params(pass, statistics_.get()), dx,
                             pass.grads + at_.weight, pass.grads + at_.bias, pass.stream);
    const double count = static_cast<double>(s.x().count());
    const float unbiased = static_cast<float>(count / (count > 1 ? count - 1 : 1));
    launch_elements(move_running, s.c, pass.stream, static_cast<int>(s.c), unbiased,
                    static_cast<const float*>(statistics_.get()), pass.buffers + at_.mean,
                    pass.buffers + at_.var);
  }

  const float* statistics() const override { return statistics_.get(); }
  int64_t channels() const override { return shape_.c; }
  int64_t values_of_channel(int64_t n) const override { return n * per_sample_ * shape_.h * shape_.w; }

 private:
  BatchNormShape shape(const Pass& pass) const {
    BatchNormShape s = shape_;
    s.n = pass.n * per_sample_;
    return s;
  }
  BatchNormParams<float> params(const Pass& pass, const float* mean) const {
    return {mean, inv_std_.get(), pass.values + at_.weight, pass.values + at_.bias};
  }
  BatchNormShape shape_;
  Places at_;
  Kept<float> statistics_, inv_std_;  // mean, then biased variance
  Kept<uint8_t> argmax_;
  int64_t per_sample_;
};

class DropoutLayer : public DeviceLayer {
 public:
  DropoutLayer(const Form& x, const LayerSpec& layer, int64_t most)
      : size_(x.per_sample * x.features()), p_(layer.p), seed_(layer.seed), mask_(most * size_) {}
  void forward(const Pass& pass, const float* x, float* y) override {
    const int64_t size = pass.n * size_;
    if (pass.training && p_ > 0)
      dropout(size, p_, {seed_, pass.step}, x, y, mask_.get(), pass.stream);
    else
      copy(size, x, y, pass.stream);
  }
  void backward(const Pass& pass, const float* dy, const float*, const float*, float* dx) override {
    const int64_t size = pass.n * size_;
    if (p_ > 0)
      dropout_backward(size, p_, dy, mask_.get(), dx, pass.stream);
    else
      copy(size, dy, dx, pass.stream);
  }

 private:
  static void copy(int64_t size, const float* from, float* to, cudaStream_t stream) {
    const size_t bytes = static_cast<size_t>(size) * sizeof(float);
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "copying activations");
  }
  int64_t size_;
  double p_;
  uint64_t seed_;
  Kept<uint8_t> mask_;
};

class LinearLayer : public DeviceLayer {
 public:
  LinearLayer(const Form& x, const LayerSpec& layer, const Places& at)
      : shape_{0, x.features(), layer.size}, at_(at), per_sample_(x.per_sample) {}
  void forward(const Pass& pass, const float* x, float* y) override {
    linear(shape(pass), x, pass.values + at_.weight, pass.values + at_.bias, y, pass.stream);
  }
  void backward(const Pass& pass, const float* dy, const float* x, const float* y, float* dx) override {
    pass.run_beside(dx, [&](const Queue& queue) {
      linear_weight_gradient(shape(pass), dy, mask(y), x, pass.grads + at_.weight, pass.grads + at_.bias,
                             queue);
    });
    if (dx) linear_input_gradient(shape(pass), dy, mask(y), pass.values + at_.weight, dx, pass.stream);
  }
  bool lose(const Pass& pass, const float* x, const LinearMask& masked, const Labels& labels, float* dy,
            float* dx) override {
    return linear_loss(shape(pass), x, pass.values + at_.weight, pass.values + at_.bias, labels.labels, dy,
                       labels.losses, masked, dx, pass.stream);
  }

 protected:
  LinearShape shape(const Pass& pass) const { return {pass.n * per_sample_, shape_.in, shape_.out}; }
  LinearShape shape_;
  Places at_;
  int64_t per_sample_;
};

class LinearBlockLayer : public LinearLayer {
 public:
  LinearBlockLayer(const Form& x, const LayerSpec& layer, const Places& at)
      : LinearLayer(x, layer, at), p_(layer.p), seed_(layer.seed) {}
  void forward(const Pass& pass, const float* x, float* y) override {
    linear_block(shape(pass), pass.training ? p_ : 0.0, {seed_, pass.step}, x, pass.values + at_.weight,
                 pass.values + at_.bias, y, pass.stream);
  }
  bool lose(const Pass&, const float*, const LinearMask&, const Labels&, float*, float*) override {
    return false;
  }
  LinearMask mask(const float* y) const override { return LinearMask::of_block(p_, y); }

 private:
  double p_;
  uint64_t seed_;
};

class PairScores : public DeviceLayer {
 public:
  explicit PairScores(int64_t k) : k_(k) {}
  void forward(const Pass& pass, const float* x, float* y) override {
    pair_logits(pass.n, k_, x, y, pass.stream);
  }
  void backward(const Pass& pass, const float* dy, const float*, const float*, float* dx) override {
    pair_logits_backward(pass.n, k_, dy, dx, pass.stream);
  }

 private:
  int64_t k_;
};

}  // namespace

std::unique_ptr<DeviceLayer> make_layer(const LayerSpec& layer, const Form& x, const Form& y,
                                        const Places& at, int64_t most, bool wants_dx) {
  switch (layer.kind) {
    case LayerSpec::Kind::kPad:
      break;  // the input comes with its border
    case LayerSpec::Kind::kHalves:
      return std::make_unique<SplitHalves>(y);
    case LayerSpec::Kind::kConvBlock:
      return std::make_unique<ConvBlock>(x, layer, y, at, most, wants_dx);
    case LayerSpec::Kind::kConvSame:
      return std::make_unique<ConvSame>(x, layer, at, most);
    case LayerSpec::Kind::kBatchNorm:
      return std::make_unique<BatchNorm>(x, layer, at, most);
    case LayerSpec::Kind::kUnpad:
      return std::make_unique<Unpad>(x);
    case LayerSpec::Kind::kDropout:
      return std::make_unique<DropoutLayer>(x, layer, most);
    case LayerSpec::Kind::kLinear:
      return std::make_unique<LinearLayer>(x, layer, at);
    case LayerSpec::Kind::kLinearBlock:
      return std::make_unique<LinearBlockLayer>(x, layer, at);
    case LayerSpec::Kind::kPairLogits:
      return std::make_unique<PairScores>(x.c);
  }
  throw std::invalid_argument("layers: an unknown kind");
}

}  // namespace mnist100::cuda
