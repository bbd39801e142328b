// Training in a GPU's memory, and its arrays, as Python has them.
#include <map>
#include <memory>

#include "bindings/arrays.h"
#include "cuda/device_array.h"
#include "cuda/engine.h"

namespace mnist100 {
namespace {

cuda::LayerSpec layer_spec(const std::string& kind, int64_t size, const Pair& kernel, const Pair& border,
                           bool pool, double p, uint64_t seed) {
  using Kind = cuda::LayerSpec::Kind;
  static const std::map<std::string, Kind> kinds = {{"pad", Kind::kPad},
                                                    {"halves", Kind::kHalves},
                                                    {"conv_block", Kind::kConvBlock},
                                                    {"conv_same", Kind::kConvSame},
                                                    {"batch_norm", Kind::kBatchNorm},
                                                    {"unpad", Kind::kUnpad},
                                                    {"dropout", Kind::kDropout},
                                                    {"linear", Kind::kLinear},
                                                    {"linear_block", Kind::kLinearBlock},
                                                    {"pair_logits", Kind::kPairLogits}};
  require(kinds.count(kind) > 0, "an unknown kind of layer");
  require_countable({size, kernel[0], kernel[1], border[0] + 56, border[1] + 56});
  return {kinds.at(kind), size, kernel[0], kernel[1], border[0], border[1], pool, p, seed};
}

cuda::TrainingSpec training_spec(int64_t batch_size, int64_t repeats, bool fresh_pairs, uint64_t pairing_seed,
                                 uint64_t shuffle_seed, uint64_t augmentation_seed, double beta1,
                                 double beta2, double eps, double reg_lambda, double weight_decay,
                                 double average_decay, double clip, double rotate, double scale, double shear,
                                 double translate, double elastic, int64_t shift, double contrast,
                                 double brightness, std::vector<double> rates, const std::string& precision) {
  using cuda::Precision;
  static const std::map<std::string, Precision> precisions = {
      {"fp32", Precision::kFp32}, {"tf32", Precision::kTf32}, {"bf16", Precision::kBf16}};
  require(precisions.count(precision) > 0, "an unknown precision");
  require(batch_size >= 1 && batch_size <= INT32_MAX && repeats >= 1,
          "batch_size or repeats is not positive");
  require(shift >= 0 && shift <= 56, "shift lies outside 0..56");
  return {batch_size,
          repeats,
          fresh_pairs,
          pairing_seed,
          shuffle_seed,
          augmentation_seed,
          {0, 0, beta1, beta2, eps, reg_lambda, weight_decay},
          average_decay,
          {rotate, scale, shear, translate, elastic, contrast, brightness, clip, shift},
          std::move(rates),
          precisions.at(precision)};
}

std::shared_ptr<cuda::Engine> make_engine(const std::vector<cuda::LayerSpec>& layers,
                                          const cuda::TrainingSpec& training, const Array<float>& mean,
                                          const Array<float>& inv_std) {
  require_shape(mean, {28, 56});
  require_shape(inv_std, {28, 56});
  const float *means = mean.data(), *inv_stds = inv_std.data();
  py::gil_scoped_release unlocked;
  return std::make_shared<cuda::Engine>(layers, training, means, inv_stds);
}

int add_pairs(cuda::Engine& engine, const Array<uint8_t>& images, const Array<uint8_t>& labels,
              const Array<int32_t>& pairs) {
  const int64_t digits = dim(images, 0);
  require_shape(images, {digits, 28, 28});
  require_shape(labels, {digits});
  require_shape(pairs, {dim(pairs, 0), 2});
  require(dim(pairs, 0) >= 1, "no pairs");
  require_below("pairs", pairs.data(), pairs.size(), static_cast<int32_t>(digits), "rows of digits");
  for (int64_t i = 0; i < digits; ++i) require(labels.data()[i] < 10, "a label is no digit");
  const cuda::DigitTable table{digits, images.data(), labels.data()};
  const int32_t* rows = pairs.data();
  const int64_t count = dim(pairs, 0);
  py::gil_scoped_release unlocked;
  return engine.add_pairs(table, count, rows);
}

Array<float> read_values(cuda::Engine& engine, cuda::Values which) {
  Array<float> values = empty<float>({engine.size_of(which)});
  float* to = values.mutable_data();
  py::gil_scoped_release unlocked;
  engine.read(which, to);
  return values;
}

void write_values(cuda::Engine& engine, cuda::Values which, const Array<float>& values) {
  require_shape(values, {engine.size_of(which)});
  const float* from = values.data();
  py::gil_scoped_release unlocked;
  engine.write(which, from);
}

// Registers an Engine's methods by their names; `Unlocked` releases the GIL.
void define_engine(py::module_& m) {
  using py::arg;
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  m.def("device_name", &cuda::device_name);
  py::class_<cuda::LayerSpec>(m, "LayerSpec")
      .def(py::init(&layer_spec), arg("kind"), py::kw_only(), arg("size") = 0, arg("kernel") = Pair{0, 0},
           arg("border") = Pair{0, 0}, arg("pool") = false, arg("p") = 0.0, arg("seed") = 0);
  py::class_<cuda::TrainingSpec>(m, "TrainingSpec")
      .def(py::init(&training_spec), py::kw_only(), arg("batch_size"), arg("repeats"), arg("fresh_pairs"),
           arg("pairing_seed"), arg("shuffle_seed"), arg("augmentation_seed"), arg("beta1"), arg("beta2"),
           arg("eps"), arg("reg_lambda"), arg("weight_decay"), arg("average_decay"), arg("clip"),
           arg("rotate") = 0.0, arg("scale") = 0.0, arg("shear") = 0.0, arg("translate") = 0.0,
           arg("elastic") = 0.0, arg("shift") = 0, arg("contrast") = 0.0, arg("brightness") = 0.0,
           arg("rates"), arg("precision") = "fp32");
  py::enum_<cuda::Values>(m, "Values")
      .value("WEIGHTS", cuda::Values::kWeights)
      .value("ADAM_M", cuda::Values::kAdamM)
      .value("ADAM_V", cuda::Values::kAdamV)
      .value("AVERAGE", cuda::Values::kAverage)
      .value("EVALUATED", cuda::Values::kEvaluated);
  py::class_<cuda::Engine, std::shared_ptr<cuda::Engine>>(m, "Engine")
      .def(py::init(&make_engine), arg("layers"), arg("training"), array("mean"), array("inv_std"))
      .def("add_pairs", &add_pairs, array("images"), array("labels"), array("pairs"))
      .def("read", &read_values, arg("which"))
      .def("write", &write_values, arg("which"), array("values"))
      .def("train_epoch", &cuda::Engine::train_epoch, arg("epoch"), arg("first_step"), arg("steps_before"),
           arg("loss_sum"), arg("augmented"), Unlocked())
      .def("begin_evaluation", &cuda::Engine::begin_evaluation, Unlocked())
      .def(
          "statistics",
          [](cuda::Engine& engine, int pairs, int64_t first, int64_t n) {
            const cuda::Engine::Statistics found = engine.statistics(pairs, first, n);
            return std::make_pair(found.counts, found.values);
          },
          arg("pairs"), arg("first"), arg("n"), Unlocked())
      .def("count_correct", &cuda::Engine::count_correct, arg("pairs"), Unlocked())
      .def("logits", &cuda::Engine::logits, arg("x"), Unlocked())
      .def(
          "arrays",
          [](const std::shared_ptr<cuda::Engine>& engine, cuda::Values which) {
            return cuda::Engine::arrays(which, engine);
          },
          arg("which"));
}

cuda::DeviceArray copied(const Array<float>& values) {
  cuda::DeviceArray array = cuda::empty_array(shape_of(values));
  const float* from = values.data();
  py::gil_scoped_release unlocked;
  cuda::copy_to(array, from);
  return array;
}

Array<float> numpy_of(const cuda::DeviceArray& array) {
  Array<float> values = empty<float>(array.shape);
  float* to = values.mutable_data();
  py::gil_scoped_release unlocked;
  cuda::copy_from(array, to);
  return values;
}

cuda::DeviceArray reshaped(const cuda::DeviceArray& array, const std::vector<int64_t>& shape) {
  int64_t size = 1;
  for (int64_t extent : shape) size *= extent;
  require(size == array.size(), "a shape of another size");
  return {array.owner, array.data, shape};
}

constexpr char kUnread[] = "dltensor", kRead[] = "used_dltensor";

py::capsule to_dlpack(const cuda::DeviceArray& array) {
  return py::capsule(cuda::exported(array), kUnread, [](PyObject* capsule) {
    if (!PyCapsule_IsValid(capsule, kUnread)) return;  // whoever read it will free it
    auto* tensor = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, kUnread));
    tensor->deleter(tensor);
  });
}

cuda::DeviceArray from_dlpack(const py::capsule& capsule) {
  require(PyCapsule_IsValid(capsule.ptr(), kUnread), "not an unread DLPack capsule");
  auto* tensor = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), kUnread));
  cuda::DeviceArray array = cuda::imported(tensor);
  PyCapsule_SetName(capsule.ptr(), kRead);
  return array;
}

void define_device_array(py::module_& m) {
  using py::arg;
  py::class_<cuda::DeviceArray>(m, "DeviceArray")
      .def(py::init(&copied), array("values"))
      .def_property_readonly("shape", [](const cuda::DeviceArray& a) { return py::tuple(py::cast(a.shape)); })
      .def("numpy", &numpy_of)
      .def("reshape", &reshaped, arg("shape"))
      .def("to_dlpack", &to_dlpack)
      .def_static("from_dlpack", &from_dlpack, arg("capsule"));
  m.def("dlpack_device", [] {
    const dlpack::Device device = cuda::dlpack_device();
    return std::make_pair(device.type, device.number);
  });
}

}  // namespace

void define_cuda(py::module_& m) {
  define_device_array(m);
  define_engine(m);
}

}  // namespace mnist100
