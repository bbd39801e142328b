// Convolution of any shape, sample by sample: im2col into scratch that stays in cache, then a product.
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

// Partial weight gradients: enough chunks for any usual number of threads, few enough to add up fast.
constexpr int64_t kChunks = 32;

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

}  // namespace

void conv2d(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y, int threads) {
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
      if (db)
        for (int64_t i = 0; i < z.out; ++i) db_part[i / z.pixels] += dy_n[i];
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
