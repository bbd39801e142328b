// The Python module: take arrays, check what memory safety needs, allocate the outputs, release the GIL, call
// the kernel. mnist100.functional is what users call; it has the helpful errors.
#include "bindings/arrays.h"

#include <map>
#include <memory>

namespace mnist100 {
namespace {

Conv2dShape conv_shape(const Image& x, int64_t oc, const Pair& kernel, const Pair& stride,
                       const Pair& padding) {
  const Conv2dShape s = {x[0],      x[1],      x[2],      x[3],       oc,        kernel[0],
                         kernel[1], stride[0], stride[1], padding[0], padding[1]};
  require(s.kh > 0 && s.kw > 0 && s.sh > 0 && s.sw > 0 && s.ph >= 0 && s.pw >= 0, "bad window");
  for (int64_t size : {s.n, s.c, s.h, s.w, s.oc, s.kh, s.kw, s.sh, s.sw, s.ph, s.pw}) {
    require(size >= 0, "a size is negative");
    require_countable({size});
  }
  require(s.h + 2 * s.ph >= s.kh && s.w + 2 * s.pw >= s.kw, "the window is larger than the image");
  require_countable({s.n, s.c, s.h, s.w});
  require_countable({s.n, s.oh(), s.ow(), s.c, s.kh, s.kw});
  return s;
}

Pool2dShape pool_shape(const Image& x, const Pair& kernel, const Pair& stride, const Pair& padding) {
  conv_shape(x, 1, kernel, stride, padding);
  require(2 * padding[0] <= kernel[0] && 2 * padding[1] <= kernel[1], "a window of padding alone");
  return {x[0], x[1], x[2], x[3], kernel[0], kernel[1], stride[0], stride[1], padding[0], padding[1]};
}

template <class T>
Image image_of(const Array<T>& x) {
  require(x.ndim() == 4, "an image batch has four dimensions");
  return {x.shape(0), x.shape(1), x.shape(2), x.shape(3)};
}

template <class T>
void gemm(const Array<T>& a, const Array<T>& b, bool trans_a, bool trans_b, double alpha, double beta,
          Array<T> out) {
  const GemmShape s = {dim(a, trans_a ? 1 : 0), dim(b, trans_b ? 0 : 1), dim(a, trans_a ? 0 : 1), trans_a,
                       trans_b};
  require(a.ndim() == 2 && b.ndim() == 2 && dim(b, trans_b ? 1 : 0) == s.k, "a and b do not fit");
  require_shape(out, {s.m, s.n});
  call(kernels<T>().gemm, s, static_cast<T>(alpha), a.data(), b.data(), static_cast<T>(beta),
       out.mutable_data());
}

template <class T>
Array<T> im2col(const Array<T>& x, const Pair& kernel, const Pair& stride, const Pair& padding) {
  const Conv2dShape s = conv_shape(image_of(x), 1, kernel, stride, padding);
  Array<T> cols = empty<T>({s.n * s.oh() * s.ow(), s.c * s.kh * s.kw});
  call(kernels<T>().im2col, s, x.data(), cols.mutable_data());
  return cols;
}

template <class T>
Array<T> col2im(const Array<T>& cols, const Image& x_shape, const Pair& kernel, const Pair& stride,
                const Pair& padding) {
  const Conv2dShape s = conv_shape(x_shape, 1, kernel, stride, padding);
  require_shape(cols, {s.n * s.oh() * s.ow(), s.c * s.kh * s.kw});
  Array<T> dx = empty<T>({s.n, s.c, s.h, s.w});
  call(kernels<T>().col2im, s, cols.data(), dx.mutable_data());
  return dx;
}

template <class T>
Conv2dShape conv_arguments(const Array<T>& x, const Array<T>& w, const Pair& stride, const Pair& padding) {
  const Image ws = image_of(w);
  require(dim(x, 1) == ws[1], "x and w have different channels");
  return conv_shape(image_of(x), ws[0], {ws[2], ws[3]}, stride, padding);
}

template <class T>
Array<T> conv2d(const Array<T>& x, const Array<T>& w, const Maybe<T>& b, const Pair& stride,
                const Pair& padding) {
  const Conv2dShape s = conv_arguments(x, w, stride, padding);
  if (b) require_shape(*b, {s.oc});
  Array<T> y = empty<T>({s.n, s.oc, s.oh(), s.ow()});
  call(kernels<T>().conv2d, s, x.data(), w.data(), data_or_null(b), y.mutable_data());
  return y;
}

template <class T>
py::tuple conv2d_backward(const Array<T>& dy, const Array<T>& x, const Array<T>& w, const Pair& stride,
                          const Pair& padding, bool need_dx) {
  const Conv2dShape s = conv_arguments(x, w, stride, padding);
  require_shape(dy, {s.n, s.oc, s.oh(), s.ow()});
  Maybe<T> dx = empty_if<T>(need_dx, {s.n, s.c, s.h, s.w});
  Array<T> dw = empty<T>({s.oc, s.c, s.kh, s.kw}), db = empty<T>({s.oc});
  call(kernels<T>().conv2d_backward, s, dy.data(), x.data(), w.data(), mutable_or_null(dx), dw.mutable_data(),
       db.mutable_data());
  return py::make_tuple(dx, dw, db);
}

template <class T>
py::tuple max_pool2d(const Array<T>& x, const Pair& kernel, const Pair& stride, const Pair& padding) {
  const Pool2dShape s = pool_shape(image_of(x), kernel, stride, padding);
  Array<T> y = empty<T>({s.n, s.c, s.oh(), s.ow()});
  Array<int32_t> argmax = empty<int32_t>({s.n, s.c, s.oh(), s.ow()});
  call(kernels<T>().max_pool2d, s, x.data(), y.mutable_data(), argmax.mutable_data());
  return py::make_tuple(y, argmax);
}

template <class T>
Array<T> max_pool2d_backward(const Array<T>& dy, const Array<int32_t>& argmax, const Image& x_shape,
                             const Pair& kernel, const Pair& stride, const Pair& padding) {
  const Pool2dShape s = pool_shape(x_shape, kernel, stride, padding);
  require_shape(dy, {s.n, s.c, s.oh(), s.ow()});
  require_shape(argmax, {s.n, s.c, s.oh(), s.ow()});
  require(s.h <= INT32_MAX / s.w, "a plane has more places than int32");
  Array<T> dx = empty<T>({s.n, s.c, s.h, s.w});
  if (!call(kernels<T>().max_pool2d_backward, s, dy.data(), argmax.data(), dx.mutable_data()))
    require_below("argmax", argmax.data(), argmax.size(), static_cast<int32_t>(s.h * s.w),
                  "places in the h·w plane");
  return dx;
}

PaddedShape padded_shape(const Image& shape, const Pair& border) {
  return {shape[0], shape[1], shape[2], shape[3], border[0], border[1]};
}

std::vector<py::ssize_t> padded_dims(const PaddedShape& s) {
  return {s.n, s.h + 2 * s.bh, s.w + 2 * s.bw, s.c};
}

template <class T>
Array<T> pad_nhwc(const Array<T>& x, const Pair& border) {
  require(border[0] >= 0 && border[1] >= 0, "a border cannot be negative");
  const PaddedShape s = padded_shape(image_of(x), border);
  Array<T> y = empty<T>(padded_dims(s));
  call(kernels<T>().pad_nhwc, s, x.data(), y.mutable_data());
  return y;
}

template <class T>
PaddedShape inside_of(const Array<T>& x, const Pair& border) {
  const Image d = image_of(x);
  const PaddedShape s = padded_shape({d[0], d[3], d[1] - 2 * border[0], d[2] - 2 * border[1]}, border);
  require(border[0] >= 0 && border[1] >= 0 && s.h >= 0 && s.w >= 0, "the border is larger than x");
  return s;
}

template <class T>
Array<T> unpad_nhwc(const Array<T>& x, const Pair& border) {
  const PaddedShape s = inside_of(x, border);
  Array<T> y = empty<T>({s.n, s.c, s.h, s.w});
  call(kernels<T>().unpad_nhwc, s, x.data(), y.mutable_data());
  return y;
}

template <class T>
ConvBlockShape block_shape(const Array<T>& x, const Array<T>& w, const Pair& y_border) {
  const Image d = image_of(x), k = image_of(w);
  require(k[2] % 2 == 1 && k[3] % 2 == 1, "the kernel is not odd");
  require(d[3] == k[1], "x and w have different channels");
  const ConvBlockShape s = {
      d[0], d[3], d[1] - 2 * (k[2] / 2), d[2] - 2 * (k[3] / 2), k[0], k[2], k[3], y_border[0], y_border[1]};
  require(s.h >= 2 && s.w >= 2 && y_border[0] >= 0 && y_border[1] >= 0, "x is too small for the block");
  return s;
}

template <class T>
py::tuple conv_block(const Array<T>& x, const Array<T>& w, const Array<T>& b, const Pair& y_border) {
  const ConvBlockShape s = block_shape(x, w, y_border);
  require_shape(b, {s.oc});
  Array<T> y = empty<T>(padded_dims(s.y()));
  Array<uint8_t> argmax = empty<uint8_t>({s.n, s.ph(), s.pw(), s.oc});
  call(kernels<T>().conv_block, s, x.data(), w.data(), b.data(), y.mutable_data(), argmax.mutable_data());
  return py::make_tuple(y, argmax);
}

template <class T>
py::tuple conv_block_backward(const Array<T>& dy, const Array<T>& x, const Array<T>& y,
                              const Array<uint8_t>& argmax, const Array<T>& w, const Pair& y_border,
                              bool need_dx) {
  const ConvBlockShape s = block_shape(x, w, y_border);
  require_shape(y, padded_dims(s.y()));
  require_shape(dy, padded_dims(s.y()));
  require_shape(argmax, {s.n, s.ph(), s.pw(), s.oc});
  Maybe<T> dx = empty_if<T>(need_dx, padded_dims(s.x()));
  Array<T> dw = empty<T>({s.oc, s.c, s.kh, s.kw}), db = empty<T>({s.oc});
  call(kernels<T>().conv_block_backward, s, dy.data(), x.data(), y.data(), argmax.data(), w.data(),
       mutable_or_null(dx), dw.mutable_data(), db.mutable_data());
  return py::make_tuple(dx, dw, db);
}

template <class T>
ConvSameShape same_shape(const Array<T>& x, const Array<T>& w, const Pair& y_border) {
  const Image d = image_of(x), k = image_of(w);
  require(k[2] % 2 == 1 && k[3] % 2 == 1, "the kernel is not odd");
  require(d[3] == k[1], "x and w have different channels");
  const ConvSameShape s = {
      d[0], d[3], d[1] - 2 * (k[2] / 2), d[2] - 2 * (k[3] / 2), k[0], k[2], k[3], y_border[0], y_border[1]};
  require(s.h >= 1 && s.w >= 1 && y_border[0] >= 0 && y_border[1] >= 0, "x is too small for its border");
  return s;
}

template <class T>
Array<T> conv_same(const Array<T>& x, const Array<T>& w, const Maybe<T>& b, bool relu, const Pair& y_border) {
  const ConvSameShape s = same_shape(x, w, y_border);
  if (b) require_shape(*b, {s.oc});
  Array<T> y = empty<T>(padded_dims(s.y()));
  call(kernels<T>().conv_same, s, x.data(), w.data(), data_or_null(b), relu, y.mutable_data());
  return y;
}

template <class T>
py::tuple conv_same_backward(const Array<T>& dy, const Array<T>& x, const Maybe<T>& y, const Array<T>& w,
                             const Pair& y_border, bool need_dx) {
  const ConvSameShape s = same_shape(x, w, y_border);
  require_shape(dy, padded_dims(s.y()));
  if (y) require_shape(*y, padded_dims(s.y()));
  Maybe<T> dx = empty_if<T>(need_dx, padded_dims(s.x()));
  Array<T> dw = empty<T>({s.oc, s.c, s.kh, s.kw}), db = empty<T>({s.oc});
  call(kernels<T>().conv_same_backward, s, dy.data(), x.data(), data_or_null(y), w.data(),
       mutable_or_null(dx), dw.mutable_data(), db.mutable_data());
  return py::make_tuple(dx, dw, db);
}

template <class T>
py::tuple batch_norm_stats(const Array<T>& x, const Pair& border) {
  const PaddedShape s = inside_of(x, border);
  require(s.count() >= 1, "statistics of nothing");
  Array<T> mean = empty<T>({s.c}), var = empty<T>({s.c});
  call(kernels<T>().batch_norm_stats, s, x.data(), mean.mutable_data(), var.mutable_data());
  return py::make_tuple(mean, var);
}

template <class T>
BatchNormShape norm_shape(const Array<T>& x, const Pair& x_border, bool pool, const Pair& y_border) {
  const PaddedShape s = inside_of(x, x_border);
  require(!pool || (s.h >= 2 && s.w >= 2), "x is too small for a pool");
  require(y_border[0] >= 0 && y_border[1] >= 0, "a border cannot be negative");
  return {s.n, s.c, s.h, s.w, s.bh, s.bw, y_border[0], y_border[1], pool};
}

template <class T>
BatchNormParams<T> norm_params(int64_t c, const Array<T>& mean, const Array<T>& inv_std,
                               const Array<T>& gamma, const Array<T>& beta) {
  for (const Array<T>* a : {&mean, &inv_std, &gamma, &beta}) require_shape(*a, {c});
  return {mean.data(), inv_std.data(), gamma.data(), beta.data()};
}

template <class T>
py::tuple batch_norm_relu(const Array<T>& x, const Array<T>& mean, const Array<T>& inv_std,
                          const Array<T>& gamma, const Array<T>& beta, const Pair& x_border, bool pool,
                          const Pair& y_border) {
  const BatchNormShape s = norm_shape(x, x_border, pool, y_border);
  const BatchNormParams<T> p = norm_params(s.c, mean, inv_std, gamma, beta);
  Array<T> y = empty<T>(padded_dims(s.y()));
  Maybe<uint8_t> argmax = empty_if<uint8_t>(pool, {s.n, s.y().h, s.y().w, s.c});
  call(kernels<T>().batch_norm_relu, s, x.data(), p, y.mutable_data(), mutable_or_null(argmax));
  return py::make_tuple(y, argmax);
}

template <class T>
py::tuple batch_norm_relu_backward(const Array<T>& dy, const Array<T>& x, const Maybe<uint8_t>& argmax,
                                   const Array<T>& mean, const Array<T>& inv_std, const Array<T>& gamma,
                                   const Array<T>& beta, const Pair& x_border, const Pair& y_border) {
  const BatchNormShape s = norm_shape(x, x_border, argmax.has_value(), y_border);
  const BatchNormParams<T> p = norm_params(s.c, mean, inv_std, gamma, beta);
  require_shape(dy, padded_dims(s.y()));
  if (argmax) require_shape(*argmax, {s.n, s.y().h, s.y().w, s.c});
  Array<T> dx = empty<T>(padded_dims(s.x())), dgamma = empty<T>({s.c}), dbeta = empty<T>({s.c});
  call(kernels<T>().batch_norm_relu_backward, s, dy.data(), x.data(), data_or_null(argmax), p,
       dx.mutable_data(), dgamma.mutable_data(), dbeta.mutable_data());
  return py::make_tuple(dx, dgamma, dbeta);
}

template <class T>
Array<T> split_halves(const Array<T>& x, const Pair& border) {
  const Image d = image_of(x);
  require(d[3] % 2 == 0, "x has an odd width");
  require(border[0] >= 0 && border[1] >= 0, "a border cannot be negative");
  const PaddedShape s = padded_shape({2 * d[0], d[1], d[2], d[3] / 2}, border);
  Array<T> y = empty<T>(padded_dims(s));
  call(kernels<T>().split_halves, s, x.data(), y.mutable_data());
  return y;
}

template <class T>
Array<T> join_halves(const Array<T>& y, const Pair& border) {
  const PaddedShape s = inside_of(y, border);
  require(s.n % 2 == 0, "an odd number of halves");
  Array<T> x = empty<T>({s.n / 2, s.c, s.h, 2 * s.w});
  call(kernels<T>().join_halves, s, y.data(), x.mutable_data());
  return x;
}

template <class T>
Array<T> pair_logits(const Array<T>& scores) {
  require(scores.ndim() == 2 && dim(scores, 0) % 2 == 0, "scores is not (2n, k)");
  const int64_t n = dim(scores, 0) / 2, k = dim(scores, 1);
  Array<T> logits = empty<T>({n, k * k});
  call(kernels<T>().pair_logits, n, k, scores.data(), logits.mutable_data());
  return logits;
}

template <class T>
Array<T> pair_logits_backward(const Array<T>& dlogits, int64_t k) {
  require(k >= 1, "k is not positive");
  require_countable({k, k});
  require(dlogits.ndim() == 2 && dim(dlogits, 1) == k * k, "dlogits is not (n, k*k)");
  const int64_t n = dim(dlogits, 0);
  Array<T> dscores = empty<T>({2 * n, k});
  call(kernels<T>().pair_logits_backward, n, k, dlogits.data(), dscores.mutable_data());
  return dscores;
}

template <class T>
LinearShape linear_shape(const Array<T>& x, const Array<T>& w) {
  require(x.ndim() == 2 && w.ndim() == 2 && dim(x, 1) == dim(w, 1), "x and w do not fit");
  return {dim(x, 0), dim(x, 1), dim(w, 0)};
}

template <class T>
Array<T> linear(const Array<T>& x, const Array<T>& w, const Maybe<T>& b) {
  const LinearShape s = linear_shape(x, w);
  if (b) require_shape(*b, {s.out});
  Array<T> y = empty<T>({s.n, s.out});
  call(kernels<T>().linear, s, x.data(), w.data(), data_or_null(b), y.mutable_data());
  return y;
}

template <class T>
py::tuple linear_backward(const Array<T>& dy, const Array<T>& x, const Array<T>& w, bool need_dx) {
  const LinearShape s = linear_shape(x, w);
  require_shape(dy, {s.n, s.out});
  Maybe<T> dx = empty_if<T>(need_dx, {s.n, s.in});
  Array<T> dw = empty<T>({s.out, s.in}), db = empty<T>({s.out});
  call(kernels<T>().linear_backward, s, dy.data(), x.data(), w.data(), mutable_or_null(dx), dw.mutable_data(),
       db.mutable_data());
  return py::make_tuple(dx, dw, db);
}

template <class T>
Array<T> linear_block(const Array<T>& x, const Array<T>& w, const Array<T>& b, double p, uint64_t seed,
                      uint64_t step) {
  const LinearShape s = linear_shape(x, w);
  require_shape(b, {s.out});
  require(p >= 0 && p < 1, "p lies outside [0, 1)");
  Array<T> y = empty<T>({s.n, s.out});
  call(kernels<T>().linear_block, s, p, Stream{seed, step}, x.data(), w.data(), b.data(), y.mutable_data());
  return y;
}

template <class T>
py::tuple linear_block_backward(const Array<T>& dy, const Array<T>& y, const Array<T>& x, const Array<T>& w,
                                double p, bool need_dx) {
  const LinearShape s = linear_shape(x, w);
  require_shape(dy, {s.n, s.out});
  require_shape(y, {s.n, s.out});
  require(p >= 0 && p < 1, "p lies outside [0, 1)");
  Maybe<T> dx = empty_if<T>(need_dx, {s.n, s.in});
  Array<T> dw = empty<T>({s.out, s.in}), db = empty<T>({s.out});
  call(kernels<T>().linear_block_backward, s, p, dy.data(), y.data(), x.data(), w.data(), mutable_or_null(dx),
       dw.mutable_data(), db.mutable_data());
  return py::make_tuple(dx, dw, db);
}

template <class T>
Array<T> relu(const Array<T>& x) {
  Array<T> y = empty<T>(shape_of(x));
  call(kernels<T>().relu, x.size(), x.data(), y.mutable_data());
  return y;
}

template <class T>
Array<T> relu_backward(const Array<T>& dy, const Array<T>& y) {
  require_shape(dy, shape_of(y));
  Array<T> dx = empty<T>(shape_of(y));
  call(kernels<T>().relu_backward, y.size(), dy.data(), y.data(), dx.mutable_data());
  return dx;
}

template <class T>
py::tuple dropout(const Array<T>& x, double p, uint64_t seed, uint64_t step) {
  require(p >= 0 && p < 1, "p lies outside [0, 1)");
  Array<T> y = empty<T>(shape_of(x));
  Array<uint8_t> mask = empty<uint8_t>(shape_of(x));
  call(kernels<T>().dropout, x.size(), p, Stream{seed, step}, x.data(), y.mutable_data(),
       mask.mutable_data());
  return py::make_tuple(y, mask);
}

template <class T>
Array<T> dropout_backward(const Array<T>& dy, const Array<uint8_t>& mask, double p) {
  require(p >= 0 && p < 1, "p lies outside [0, 1)");
  require_shape(mask, shape_of(dy));
  Array<T> dx = empty<T>(shape_of(dy));
  call(kernels<T>().dropout_backward, dy.size(), p, dy.data(), mask.data(), dx.mutable_data());
  return dx;
}

template <class T>
Array<T> softmax(const Array<T>& x) {
  require(x.ndim() == 2 && dim(x, 1) > 0, "x is not (n, classes)");
  Array<T> p = empty<T>(shape_of(x));
  call(kernels<T>().softmax, dim(x, 0), dim(x, 1), x.data(), p.mutable_data());
  return p;
}

template <class T>
py::tuple softmax_cross_entropy(const Array<T>& logits, const Array<int64_t>& labels) {
  require(logits.ndim() == 2 && dim(logits, 0) > 0 && dim(logits, 1) > 0, "logits is not (n, classes)");
  require_shape(labels, {dim(logits, 0)});
  require_below("labels", labels.data(), labels.size(), dim(logits, 1), "the classes of logits");
  Array<T> dlogits = empty<T>(shape_of(logits));
  const double loss = call(kernels<T>().softmax_cross_entropy, dim(logits, 0), dim(logits, 1), logits.data(),
                           labels.data(), dlogits.mutable_data());
  return py::make_tuple(loss, dlogits);
}

template <class T>
void adam_step(Array<T> param, const Array<T>& grad, Array<T> m, Array<T> v, int64_t step, double lr,
               double beta1, double beta2, double eps, double l2, double decay) {
  require(param.size() == grad.size() && param.size() == m.size() && param.size() == v.size(),
          "param, grad, m and v differ in size");
  call(kernels<T>().adam_step, param.size(), AdamParams{step, lr, beta1, beta2, eps, l2, decay},
       param.mutable_data(), grad.data(), m.mutable_data(), v.mutable_data());
}

template <class T>
void sgd_step(Array<T> param, const Array<T>& grad, Array<T> velocity, double lr, double momentum,
              double l2) {
  require(param.size() == grad.size() && param.size() == velocity.size(),
          "param, grad and velocity differ in size");
  call(kernels<T>().sgd_step, param.size(), SgdParams{lr, momentum, l2}, param.mutable_data(), grad.data(),
       velocity.mutable_data());
}

template <class T>
void ema_update(Array<T> average, const Array<T>& param, double decay) {
  require(average.size() == param.size(), "average and param differ in size");
  call(kernels<T>().ema_update, param.size(), decay, average.mutable_data(), param.data());
}

template <class T>
double sum_squares(const Array<T>& x) {
  return call(kernels<T>().sum_squares, x.size(), x.data());
}

template <class T>
void fma_rounds(Array<T> y, double a, double b, int64_t rounds) {
  require(rounds >= 0, "rounds is negative");
  call(kernels<T>().fma_rounds, y.size(), rounds, static_cast<T>(a), static_cast<T>(b), y.mutable_data());
}

Array<float> input_batch(const Array<uint8_t>& digits, const Array<int32_t>& pairs,
                         const Array<int64_t>& samples, const Array<float>& mean, const Array<float>& inv_std,
                         double clip, double rotate, double scale, double shear, double translate,
                         double elastic, int64_t shift, double contrast, double brightness, uint64_t seed,
                         uint64_t step) {
  require_shape(digits, {dim(digits, 0), 28, 28});
  require_shape(pairs, {dim(pairs, 0), 2});
  require_shape(samples, {dim(samples, 0)});
  require_shape(mean, {28, 56});
  require_shape(inv_std, {28, 56});
  require(shift >= 0 && shift <= 56, "shift lies outside 0..56");
  require_below("samples", samples.data(), samples.size(), dim(pairs, 0), "rows of pairs");
  for (py::ssize_t i = 0; i < 2 * samples.size(); ++i) {  // of pairs, only the rows that are read
    const int32_t digit = pairs.data()[2 * samples.data()[i / 2] + i % 2];
    if (digit < 0 || digit >= dim(digits, 0)) fail_index("pairs", digit, dim(digits, 0), "rows of digits");
  }
  Array<float> y = empty<float>({dim(samples, 0), 1, 28, 56});
  const InputParams p = {rotate, scale, shear, translate, elastic, contrast, brightness, clip, shift};
  call(kernels<float>().input_batch, dim(samples, 0), p, Stream{seed, step}, digits.data(), pairs.data(),
       samples.data(), mean.data(), inv_std.data(), y.mutable_data());
  return y;
}

Array<uint64_t> random_keys_array(int64_t size, uint64_t seed, uint64_t step) {
  require(size >= 0, "size is negative");
  Array<uint64_t> keys = empty<uint64_t>({size});
  py::gil_scoped_release unlocked;
  random_keys(size, {seed, step}, keys.mutable_data());
  return keys;
}

// Registers one function for float and, under the same name, for double. Nothing is ever converted.
#define MNIST100_DEF(name, ...)            \
  m.def(#name, &name<float>, __VA_ARGS__); \
  m.def(#name, &name<double>, __VA_ARGS__)

py::arg_v array_or_none(const char* name) { return array(name) = py::none(); }

void define_ops(py::module_& m) {
  using py::arg;
  MNIST100_DEF(gemm, array("a"), array("b"), arg("trans_a"), arg("trans_b"), arg("alpha"), arg("beta"),
               array("out"));
  MNIST100_DEF(im2col, array("x"), arg("kernel_size"), arg("stride"), arg("padding"));
  MNIST100_DEF(col2im, array("cols"), arg("x_shape"), arg("kernel_size"), arg("stride"), arg("padding"));
  MNIST100_DEF(conv2d, array("x"), array("w"), array_or_none("b"), arg("stride"), arg("padding"));
  MNIST100_DEF(conv2d_backward, array("dy"), array("x"), array("w"), arg("stride"), arg("padding"),
               arg("need_dx"));
  MNIST100_DEF(max_pool2d, array("x"), arg("kernel_size"), arg("stride"), arg("padding"));
  MNIST100_DEF(max_pool2d_backward, array("dy"), array("argmax"), arg("x_shape"), arg("kernel_size"),
               arg("stride"), arg("padding"));
  MNIST100_DEF(pad_nhwc, array("x"), arg("border"));
  MNIST100_DEF(unpad_nhwc, array("x"), arg("border"));
  MNIST100_DEF(conv_block, array("x"), array("w"), array("b"), arg("y_border"));
  MNIST100_DEF(conv_block_backward, array("dy"), array("x"), array("y"), array("argmax"), array("w"),
               arg("y_border"), arg("need_dx"));
  MNIST100_DEF(conv_same, array("x"), array("w"), array_or_none("b"), arg("relu"), arg("y_border"));
  MNIST100_DEF(conv_same_backward, array("dy"), array("x"), array_or_none("y"), array("w"), arg("y_border"),
               arg("need_dx"));
  MNIST100_DEF(batch_norm_stats, array("x"), arg("border"));
  MNIST100_DEF(batch_norm_relu, array("x"), array("mean"), array("inv_std"), array("gamma"), array("beta"),
               arg("x_border"), arg("pool"), arg("y_border"));
  MNIST100_DEF(batch_norm_relu_backward, array("dy"), array("x"), array_or_none("argmax"), array("mean"),
               array("inv_std"), array("gamma"), array("beta"), arg("x_border"), arg("y_border"));
  MNIST100_DEF(split_halves, array("x"), arg("border"));
  MNIST100_DEF(join_halves, array("y"), arg("border"));
  MNIST100_DEF(pair_logits, array("scores"));
  MNIST100_DEF(pair_logits_backward, array("dlogits"), arg("k"));
  MNIST100_DEF(linear, array("x"), array("w"), array_or_none("b"));
  MNIST100_DEF(linear_backward, array("dy"), array("x"), array("w"), arg("need_dx"));
  MNIST100_DEF(linear_block, array("x"), array("w"), array("b"), arg("p"), arg("seed"), arg("step"));
  MNIST100_DEF(linear_block_backward, array("dy"), array("y"), array("x"), array("w"), arg("p"),
               arg("need_dx"));
  MNIST100_DEF(relu, array("x"));
  MNIST100_DEF(relu_backward, array("dy"), array("y"));
  MNIST100_DEF(dropout, array("x"), arg("p"), arg("seed"), arg("step"));
  MNIST100_DEF(dropout_backward, array("dy"), array("mask"), arg("p"));
  MNIST100_DEF(softmax, array("x"));
  MNIST100_DEF(softmax_cross_entropy, array("logits"), array("labels"));
  MNIST100_DEF(adam_step, array("param"), array("grad"), array("m"), array("v"), arg("step"), arg("lr"),
               arg("beta1"), arg("beta2"), arg("eps"), arg("l2"), arg("decay"));
  MNIST100_DEF(sgd_step, array("param"), array("grad"), array("velocity"), arg("lr"), arg("momentum"),
               arg("l2"));
  MNIST100_DEF(ema_update, array("average"), array("param"), arg("decay"));
  MNIST100_DEF(sum_squares, array("x"));
  MNIST100_DEF(fma_rounds, array("y"), arg("a"), arg("b"), arg("rounds"));
}

void define_input(py::module_& m) {
  using py::arg;
  m.def("input_batch", &input_batch, array("digits"), array("pairs"), array("samples"), array("mean"),
        array("inv_std"), arg("clip"), arg("rotate"), arg("scale"), arg("shear"), arg("translate"),
        arg("elastic"), arg("shift"), arg("contrast"), arg("brightness"), arg("seed"), arg("step"));
  m.def("random_keys", &random_keys_array, arg("size"), arg("seed"), arg("step"));
}

std::vector<std::string> names(bool supported_only) {
  const char* all[kMaxIsas];
  std::vector<std::string> found;
  for (int i = 0, count = isa_names(all); i < count; ++i)
    if (!supported_only || isa_supported(all[i])) found.emplace_back(all[i]);
  return found;
}

std::string joined(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : ", ") + word;
  return line;
}

void choose_isa(const std::string& name, const char* argument) {
  if (set_isa(name.c_str())) return;
  throw py::value_error(std::string(argument) + ": got '" + name + "', wants one of " + joined(names(true)) +
                        " (built: " + joined(names(false)) + ")");
}

// MNIST100_ISA overrides the choice; the oracle is not one of its values.
void choose_isa_from_environment() {
  const char* wanted = std::getenv("MNIST100_ISA");
  if (!wanted || !*wanted) return;
  if (std::string(wanted) == reference::table_float.name)
    throw py::value_error("MNIST100_ISA: got 'reference', wants an instruction set");
  choose_isa(wanted, "MNIST100_ISA");
}

void define_configuration(py::module_& m) {
  m.def("isas", [] { return names(false); }, "Instruction sets built in, then 'reference'.");
  m.def("supported_isas", [] { return names(true); }, "Those of isas() that this CPU can run.");
  m.def("isa", [] { return kernels<float>().name; }, "The one in use.");
  m.def("set_isa", [](const std::string& name) { choose_isa(name, "name"); }, py::arg("name"));
  m.def("num_threads", &num_threads);
  m.def(
      "set_num_threads",
      [](int n) {
        require(n >= 1, "n is not positive");
        set_num_threads(n);
      },
      py::arg("n"));
  m.def("blocks_taken", &blocks_taken, "Larger blocks of memory that the system had to give so far.");
  m.def("has_openmp", &has_openmp);
  m.def("compiler", &compiler);
  m.attr("version") = MNIST100_VERSION;
  m.attr("flags") = optimisation_flags();
}

}  // namespace
}  // namespace mnist100

PYBIND11_MODULE(_core, m) {
  mnist100::choose_isa_from_environment();
  mnist100::define_ops(m);
  mnist100::define_input(m);
  mnist100::define_configuration(m);
  mnist100::define_cuda(m);
}
