// Convolution on NCHW, sample by sample in scratch that stays in cache: stride 1 and "same" padding as
// a correlation of padded NHWC, every other shape as im2col and a product.
#include "conv_gradient.h"

namespace mnist100::MNIST100_ISA {
namespace {

struct Sizes {
  explicit Sizes(const Conv2dShape& s)
      : pixels(s.oh() * s.ow()),
        taps(s.c * s.kh * s.kw),
        in(s.c * s.h * s.w),
        out(s.oc * pixels),
        cols(round_up(pixels * taps, 16)) {}
  int64_t pixels, taps, in, out;
  int64_t cols;  // rounded up to a cache line
};

float sum_of(int64_t size, const float* x) {
  Vec lanes = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) lanes += load(x + i);
  lanes += load_first(x + i, size - i);
  float sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  return sum;
}

// Output channels in whole vectors: then the padded output is a plain NHWC image.
bool is_same_shape(const Conv2dShape& s) {
  return s.sh == 1 && s.sw == 1 && s.kh == 2 * s.ph + 1 && s.kw == 2 * s.pw + 1 && s.oc % kLanes == 0;
}

void same_conv2d(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y,
                 int threads) {
  const PaddedShape in = {1, s.c, s.h, s.w, s.ph, s.pw}, out = {1, s.oc, s.h, s.w, 0, 0};
  ConvPlan plan({s.c, s.oc, s.kh, s.kw, nullptr, b, false}, in, out);
  const int64_t in_size = round_up(in.sample(), 16), out_size = round_up(out.sample(), 16);
  const int64_t worker_size = in_size + out_size + plan.worker_floats();
  float* weights = scratch_floats(plan.floats() + threads * worker_size);
  plan.pack(weights, [&](int64_t o, int64_t c, int64_t ky, int64_t kx) {
    return w[((o * s.c + c) * s.kh + ky) * s.kw + kx];
  });
  parallel_for(s.n, threads, [&](int64_t n, int worker) {
    float* from = weights + plan.floats() + worker * worker_size;
    float* to = from + in_size;
    pad_sample(in, x + n * s.c * s.h * s.w, from);
    plan.run(1, from, to, to + out_size);
    unpad_sample(out, to, y + n * s.oc * s.h * s.w);
  });
}

void same_conv2d_backward(const Conv2dShape& s, const float* dy, const float* x, const float* w, float* dx,
                          float* dw, float* db, int threads) {
  const PaddedShape in = {1, s.c, s.h, s.w, s.ph, s.pw}, out = {1, s.oc, s.h, s.w, s.ph, s.pw};
  const PaddedShape plain = {1, s.c, s.h, s.w, 0, 0};
  ConvPlan flipped = input_gradient(out, plain, s.kh, s.kw);
  const Partials parts(s.n, s.kh * s.kw * s.c * s.oc, s.oc);
  const int64_t in_size = round_up(in.sample(), 16), out_size = round_up(out.sample(), 16);
  const int64_t worker_size = in_size + out_size + flipped.worker_floats();
  float* block = static_cast<float*>(scratch(
      sizeof(float) * static_cast<size_t>(parts.floats() + flipped.floats() + threads * worker_size)));
  float* weights = block + parts.floats();
  if (dx) pack_flipped(flipped, s.oc, s.c, w, weights);
  const float* sums =
      parts.run(s.n, block, threads, [&](int64_t n, float* dw_part, float* db_part, int worker) {
        float* image = weights + flipped.floats() + worker * worker_size;
        float* d = image + in_size;
        const float* dy_n = dy + n * s.oc * s.h * s.w;
        pad_sample(in, x + n * s.c * s.h * s.w, image);
        pad_sample(out, dy_n, d);
        if (dw) weight_gradient(in, out, image, d, dw_part);
        for (int64_t o = 0; db && o < s.oc; ++o) db_part[o] += sum_of(s.h * s.w, dy_n + o * s.h * s.w);
        if (!dx) return;
        flipped.run(1, d, image, d + out_size);
        unpad_sample(plain, image, dx + n * s.c * s.h * s.w);
      });
  if (dw) write_weight_gradient(s.oc, s.c, s.kh * s.kw, sums, 1, s.c * s.oc, s.oc, dw);
  if (db) __builtin_memcpy(db, sums + parts.weights, sizeof(float) * static_cast<size_t>(s.oc));
}

}  // namespace

void conv2d(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y, int threads) {
  if (is_same_shape(s)) return same_conv2d(s, x, w, b, y, threads);
  const Sizes z(s);
  const int64_t per_worker = z.cols + max_of(product_scratch(), columns_scratch(s));
  float* block = static_cast<float*>(scratch(sizeof(float) * static_cast<size_t>(threads * per_worker)));
  parallel_for(s.n, threads, [&](int64_t n, int worker) {
    float* cols = block + worker * per_worker;
    float* out = y + n * z.out;
    im2col_sample(s, x + n * z.in, cols, cols + z.cols);
    // y (oc,pixels) = w (oc,taps) cols^T, on top of the bias
    for (int64_t i = 0; b && i < z.out; ++i) out[i] = b[i / z.pixels];
    product_serial(
        {s.oc, z.pixels, z.taps, 1, {w, z.taps, 1}, {cols, 1, z.taps}, b ? 1.0f : 0.0f, out, z.pixels},
        cols + z.cols);
  });
}

void conv2d_backward(const Conv2dShape& s, const float* dy, const float* x, const float* w, float* dx,
                     float* dw, float* db, int threads) {
  if (is_same_shape(s)) return same_conv2d_backward(s, dy, x, w, dx, dw, db, threads);
  const Sizes z(s);
  const int64_t chunks = max_of(1, min_of(s.n, kChunks));
  const int64_t dw_size = s.oc * z.taps;
  const int64_t partials = round_up(chunks * (dw_size + s.oc), 16);
  const int64_t per_worker = z.cols + max_of(product_scratch(), columns_scratch(s));
  float* dw_parts =
      static_cast<float*>(scratch(sizeof(float) * static_cast<size_t>(partials + threads * per_worker)));
  float* db_parts = dw_parts + chunks * dw_size;
  parallel_for(chunks, threads, [&](int64_t chunk, int worker) {
    float* cols = dw_parts + partials + worker * per_worker;
    float* other = cols + z.cols;  // scratch of one call at a time
    float* dw_part = dw_parts + chunk * dw_size;
    float* db_part = db_parts + chunk * s.oc;
    __builtin_memset(dw_part, 0, sizeof(float) * static_cast<size_t>(dw_size));
    __builtin_memset(db_part, 0, sizeof(float) * static_cast<size_t>(s.oc));
    for (int64_t n = s.n * chunk / chunks; n < s.n * (chunk + 1) / chunks; ++n) {
      const float* dy_n = dy + n * z.out;
      if (dw) {
        // dw (oc,taps) += dy (oc,pixels) cols (pixels,taps)
        im2col_sample(s, x + n * z.in, cols, other);
        product_serial(
            {s.oc, z.taps, z.pixels, 1, {dy_n, z.pixels, 1}, {cols, z.taps, 1}, 1, dw_part, z.taps}, other);
      }
      for (int64_t o = 0; db && o < s.oc; ++o) db_part[o] += sum_of(z.pixels, dy_n + o * z.pixels);
      if (dx) {
        // dcols (pixels,taps) = dy^T (pixels,oc) w (oc,taps)
        product_serial({z.pixels, z.taps, s.oc, 1, {dy_n, 1, z.pixels}, {w, z.taps, 1}, 0, cols, z.taps},
                       other);
        col2im_sample(s, cols, dx + n * z.in, other);
      }
    }
  });
  if (dw) sum_partials(dw_size, chunks, dw_parts, dw, threads);
  if (db) sum_partials(s.oc, chunks, db_parts, db, threads);
}

}  // namespace mnist100::MNIST100_ISA
