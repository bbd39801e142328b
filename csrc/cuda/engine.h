// Training a network in the GPU's memory: what the bindings know of it. No CUDA in here.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device_array.h"
#include "kernels.h"
#include "precision.h"

namespace mnist100::cuda {

// A layer, in the order of the network; the sizes of its input are those of the output before it. The
// parameters of a layer are its weight and bias, or gamma and beta; its buffers are mean and variance.
struct LayerSpec {
  enum class Kind {
    kPad,
    kHalves,
    kConvBlock,
    kConvSame,
    kBatchNorm,
    kUnpad,
    kDropout,
    kLinear,
    kLinearBlock,
    kPairLogits
  };
  Kind kind;
  int64_t size = 0;                    // channels or features of the output
  int64_t kernel_h = 0, kernel_w = 0;  // of a convolution
  int64_t border_h = 0, border_w = 0;  // around an output that is padded NHWC
  bool pool = false;                   // of a batch normalisation
  double p = 0;                        // of a dropout
  uint64_t seed = 0;
};

struct TrainingSpec {
  int64_t batch_size, repeats;
  bool fresh_pairs;  // made anew every epoch
  uint64_t pairing_seed, shuffle_seed, augmentation_seed;
  AdamParams adam;       // step and lr are not used, l2 is lambda: the gradient gets lambda / n * w
  double average_decay;  // 0: no average
  InputParams augmentation;
  std::vector<double> rates;  // of every step
  Precision precision;
};

// Arrays of digits in the GPU's memory, and pairs of them; those of `train` are made by the epoch.
struct DigitTable {
  int64_t count;
  const uint8_t* images;  // (count, 28, 28)
  const uint8_t* labels;  // (count)
};

// Which tensors: of training, or, after begin_evaluation, the ones that are evaluated and kept.
enum class Values { kWeights, kAdamM, kAdamV, kAverage, kEvaluated };

class Engine {
 public:
  // mean, inv_std (28,56). Throws std::invalid_argument if the layers do not fit one another.
  Engine(const std::vector<LayerSpec>& layers, const TrainingSpec& training, const float* mean,
         const float* inv_std);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Pairs of a table of digits, both copied; returns their number, from 0. The first are trained on.
  int add_pairs(const DigitTable& digits, int64_t count, const int32_t* pairs);

  // All tensors in the order of the layers, parameters before buffers; moments have no buffers.
  int64_t size_of(Values which) const;
  void read(Values which, float* to);
  void write(Values which, const float* from);

  // Takes the steps of an epoch from number `first_step` of it on, `steps_before` steps after the run's
  // start; returns the sum of the losses so far, each times its pairs, of which `loss_sum` are of the steps
  // left out.
  double train_epoch(int64_t epoch, int64_t first_step, int64_t steps_before, double loss_sum,
                     bool augmented);

  // Takes the average, or the weights, for what is evaluated from now on.
  void begin_evaluation();
  // For rows [first, first + n) of pairs, at most 256: of every batch normalisation in turn how many values a
  // channel has, and means, then biased variances.
  struct Statistics {
    std::vector<int64_t> counts;
    std::vector<float> values;
  };
  Statistics statistics(int set, int64_t first, int64_t n);
  int64_t count_correct(int set);
  // Logits (n,classes) of standardised images (n,28,56), by the tensors that are evaluated.
  DeviceArray logits(const DeviceArray& x);
  // The tensors themselves, each in a row.
  static std::vector<DeviceArray> arrays(Values which, const std::shared_ptr<Engine>& engine);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

std::string device_name();  // of the GPU in use

}  // namespace mnist100::cuda
