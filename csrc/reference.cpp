// The oracle: every kernel as its definition, in naive loops with sums in double.
// No SIMD, no OpenMP, no scratch; `threads` is ignored.
#include <string.h>

#include <memory>

#include "kernels.h"
#include "philox.h"

namespace mnist100 {
namespace {

template <class T>
T relu_of(T x) {
  return x < T(0) ? T(0) : x;  // a NaN is kept
}

template <class T>
bool beats(T candidate, T best) {
  return candidate > best || candidate != candidate;  // a NaN beats everything
}

template <class T>
void gemm(const GemmShape& s, T alpha, const T* a, const T* b, T beta, T* c, int) {
  for (int64_t i = 0; i < s.m; ++i)
    for (int64_t j = 0; j < s.n; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < s.k; ++p) {
        const T av = s.trans_a ? a[p * s.m + i] : a[i * s.k + p];
        const T bv = s.trans_b ? b[j * s.k + p] : b[p * s.n + j];
        sum += static_cast<double>(av) * static_cast<double>(bv);
      }
      T* out = c + i * s.n + j;
      const double old = beta == T(0) ? 0.0 : static_cast<double>(beta) * static_cast<double>(*out);
      *out = static_cast<T>(static_cast<double>(alpha) * sum + old);
    }
}

// Calls f(row, column, index into x, or -1 where the window lies over the padding).
template <class F>
void for_each_column(const Conv2dShape& s, F f) {
  const int64_t columns = s.c * s.kh * s.kw;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t oy = 0; oy < s.oh(); ++oy)
      for (int64_t ox = 0; ox < s.ow(); ++ox)
        for (int64_t q = 0; q < columns; ++q) {
          const int64_t c = q / (s.kh * s.kw);
          const int64_t iy = oy * s.sh - s.ph + q / s.kw % s.kh;
          const int64_t ix = ox * s.sw - s.pw + q % s.kw;
          const bool inside = iy >= 0 && iy < s.h && ix >= 0 && ix < s.w;
          f((n * s.oh() + oy) * s.ow() + ox, q, inside ? ((n * s.c + c) * s.h + iy) * s.w + ix : -1);
        }
}

template <class T>
void im2col(const Conv2dShape& s, const T* x, T* cols, int) {
  const int64_t columns = s.c * s.kh * s.kw;
  for_each_column(
      s, [&](int64_t row, int64_t q, int64_t at) { cols[row * columns + q] = at < 0 ? T(0) : x[at]; });
}

template <class T>
void col2im(const Conv2dShape& s, const T* cols, T* dx, int) {
  const int64_t columns = s.c * s.kh * s.kw;
  memset(dx, 0, sizeof(T) * static_cast<size_t>(s.n * s.c * s.h * s.w));
  for_each_column(s, [&](int64_t row, int64_t q, int64_t at) {
    if (at >= 0) dx[at] += cols[row * columns + q];
  });
}

// Calls f(index into y, into x, into w) for every product of the convolution.
template <class F>
void for_each_product(const Conv2dShape& s, F f) {
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t o = 0; o < s.oc; ++o)
      for (int64_t oy = 0; oy < s.oh(); ++oy)
        for (int64_t ox = 0; ox < s.ow(); ++ox)
          for (int64_t c = 0; c < s.c; ++c)
            for (int64_t ky = 0; ky < s.kh; ++ky)
              for (int64_t kx = 0; kx < s.kw; ++kx) {
                const int64_t iy = oy * s.sh - s.ph + ky;
                const int64_t ix = ox * s.sw - s.pw + kx;
                if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
                f(((n * s.oc + o) * s.oh() + oy) * s.ow() + ox, ((n * s.c + c) * s.h + iy) * s.w + ix,
                  ((o * s.c + c) * s.kh + ky) * s.kw + kx);
              }
}

// Sums in double over a whole tensor, rounded to T once at the end.
template <class T>
struct Sums {
  explicit Sums(int64_t count) : size(count), at(new double[static_cast<size_t>(count)]()) {}
  ~Sums() { delete[] at; }
  Sums(const Sums&) = delete;
  Sums& operator=(const Sums&) = delete;
  void round_to(T* out) const {
    for (int64_t i = 0; i < size; ++i) out[i] = static_cast<T>(at[i]);
  }
  int64_t size;
  double* at;
};

template <class T>
void conv2d(const Conv2dShape& s, const T* x, const T* w, const T* b, T* y, int) {
  const int64_t plane = s.oh() * s.ow();
  Sums<T> sums(s.n * s.oc * plane);
  if (b)
    for (int64_t i = 0; i < sums.size; ++i) sums.at[i] = static_cast<double>(b[i / plane % s.oc]);
  for_each_product(s, [&](int64_t yi, int64_t xi, int64_t wi) {
    sums.at[yi] += static_cast<double>(x[xi]) * static_cast<double>(w[wi]);
  });
  sums.round_to(y);
}

template <class T>
void conv2d_backward(const Conv2dShape& s, const T* dy, const T* x, const T* w, T* dx, T* dw, T* db, int) {
  const int64_t plane = s.oh() * s.ow();
  Sums<T> dx_sums(s.n * s.c * s.h * s.w), dw_sums(s.oc * s.c * s.kh * s.kw), db_sums(s.oc);
  for_each_product(s, [&](int64_t yi, int64_t xi, int64_t wi) {
    dx_sums.at[xi] += static_cast<double>(dy[yi]) * static_cast<double>(w[wi]);
    dw_sums.at[wi] += static_cast<double>(dy[yi]) * static_cast<double>(x[xi]);
  });
  for (int64_t i = 0; i < s.n * s.oc * plane; ++i) db_sums.at[i / plane % s.oc] += static_cast<double>(dy[i]);
  if (dx) dx_sums.round_to(dx);
  if (dw) dw_sums.round_to(dw);
  if (db) db_sums.round_to(db);
}

template <class T>
void max_pool2d(const Pool2dShape& s, const T* x, T* y, int32_t* argmax, int) {
  for (int64_t nc = 0; nc < s.n * s.c; ++nc)
    for (int64_t oy = 0; oy < s.oh(); ++oy)
      for (int64_t ox = 0; ox < s.ow(); ++ox) {
        int64_t best = -1;
        for (int64_t ky = 0; ky < s.kh; ++ky)
          for (int64_t kx = 0; kx < s.kw; ++kx) {
            const int64_t iy = oy * s.sh - s.ph + ky;
            const int64_t ix = ox * s.sw - s.pw + kx;
            if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
            const int64_t at = iy * s.w + ix;
            if (best < 0 || beats(x[nc * s.h * s.w + at], x[nc * s.h * s.w + best])) best = at;
          }
        const int64_t out = (nc * s.oh() + oy) * s.ow() + ox;
        y[out] = x[nc * s.h * s.w + best];
        argmax[out] = static_cast<int32_t>(best);
      }
}

template <class T>
bool max_pool2d_backward(const Pool2dShape& s, const T* dy, const int32_t* argmax, T* dx, int) {
  const int64_t windows = s.oh() * s.ow();
  memset(dx, 0, sizeof(T) * static_cast<size_t>(s.n * s.c * s.h * s.w));
  for (int64_t i = 0; i < s.n * s.c * windows; ++i) {
    if (argmax[i] < 0 || argmax[i] >= s.h * s.w) return false;
    dx[i / windows * s.h * s.w + argmax[i]] += dy[i];
  }
  return true;
}

template <class F>
void for_each_pixel(const PaddedShape& s, F f) {  // f(index in NCHW, index in padded NHWC)
  int64_t i = 0;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t c = 0; c < s.c; ++c)
      for (int64_t y = 0; y < s.h; ++y)
        for (int64_t x = 0; x < s.w; ++x) f(i++, s.at(n, y, x) + c);
}

template <class T>
void pad_nhwc(const PaddedShape& s, const T* x, T* y, int) {
  memset(y, 0, sizeof(T) * static_cast<size_t>(s.n * s.sample()));
  for_each_pixel(s, [&](int64_t plain, int64_t padded) { y[padded] = x[plain]; });
}

template <class T>
void unpad_nhwc(const PaddedShape& s, const T* x, T* y, int) {
  for_each_pixel(s, [&](int64_t plain, int64_t padded) { y[plain] = x[padded]; });
}

// Calls f(n, o, window row, window column, place in the window) for every pooled convolution output.
template <class F>
void for_each_pooled(const ConvBlockShape& s, F f) {
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t o = 0; o < s.oc; ++o)
      for (int64_t py = 0; py < s.ph(); ++py)
        for (int64_t px = 0; px < s.pw(); ++px)
          for (int64_t place = 0; place < 4; ++place) f(n, o, py, px, place);
}

// Calls f(index into x, into w) for every product of output pixel (n, o, oy, ox); the border of x is read.
template <class Shape, class F>
void for_each_tap(const Shape& s, int64_t n, int64_t o, int64_t oy, int64_t ox, F f) {
  for (int64_t c = 0; c < s.c; ++c)
    for (int64_t ky = 0; ky < s.kh; ++ky)
      for (int64_t kx = 0; kx < s.kw; ++kx)
        f(s.x().at(n, oy + ky - s.kh / 2, ox + kx - s.kw / 2) + c, ((o * s.c + c) * s.kh + ky) * s.kw + kx);
}

template <class T>
void conv_block(const ConvBlockShape& s, const T* x, const T* w, const T* b, T* y, uint8_t* argmax, int) {
  memset(y, 0, sizeof(T) * static_cast<size_t>(s.n * s.y().sample()));
  for_each_pooled(s, [&](int64_t n, int64_t o, int64_t py, int64_t px, int64_t place) {
    double sum = static_cast<double>(b[o]);
    for_each_tap(s, n, o, 2 * py + place / 2, 2 * px + place % 2, [&](int64_t xi, int64_t wi) {
      sum += static_cast<double>(x[xi]) * static_cast<double>(w[wi]);
    });
    const T value = relu_of(static_cast<T>(sum));
    T* best = y + s.y().at(n, py, px) + o;
    if (place > 0 && !beats(value, *best)) return;
    *best = value;
    argmax[((n * s.ph() + py) * s.pw() + px) * s.oc + o] = static_cast<uint8_t>(place);
  });
}

template <class T>
void conv_block_backward(const ConvBlockShape& s, const T* dy, const T* x, const T* y, const uint8_t* argmax,
                         const T* w, T* dx, T* dw, T* db, int) {
  Sums<T> dx_sums(s.n * s.x().sample()), dw_sums(s.oc * s.c * s.kh * s.kw), db_sums(s.oc);
  for_each_pooled(s, [&](int64_t n, int64_t o, int64_t py, int64_t px, int64_t place) {
    const int64_t out = s.y().at(n, py, px) + o;
    if (argmax[((n * s.ph() + py) * s.pw() + px) * s.oc + o] != place || !(y[out] > T(0))) return;
    const double g = static_cast<double>(dy[out]);
    db_sums.at[o] += g;
    for_each_tap(s, n, o, 2 * py + place / 2, 2 * px + place % 2, [&](int64_t xi, int64_t wi) {
      dx_sums.at[xi] += g * static_cast<double>(w[wi]);
      dw_sums.at[wi] += g * static_cast<double>(x[xi]);
    });
  });
  if (dx) dx_sums.round_to(dx);
  dw_sums.round_to(dw);
  db_sums.round_to(db);
}

template <class T>
void conv_same(const ConvSameShape& s, const T* x, const T* w, const T* b, bool relu, T* y, int) {
  memset(y, 0, sizeof(T) * static_cast<size_t>(s.n * s.y().sample()));
  for_each_pixel({s.n, s.oc, s.h, s.w, 0, 0}, [&](int64_t plain, int64_t) {
    const int64_t ox = plain % s.w, oy = plain / s.w % s.h, o = plain / (s.w * s.h) % s.oc;
    const int64_t n = plain / (s.w * s.h * s.oc);
    double sum = b ? static_cast<double>(b[o]) : 0.0;
    for_each_tap(s, n, o, oy, ox, [&](int64_t xi, int64_t wi) {
      sum += static_cast<double>(x[xi]) * static_cast<double>(w[wi]);
    });
    const T value = static_cast<T>(sum);
    y[s.y().at(n, oy, ox) + o] = relu ? relu_of(value) : value;
  });
}

template <class T>
void conv_same_backward(const ConvSameShape& s, const T* dy, const T* x, const T* y, const T* w, T* dx, T* dw,
                        T* db, int) {
  Sums<T> dx_sums(s.n * s.x().sample()), dw_sums(s.oc * s.c * s.kh * s.kw), db_sums(s.oc);
  for_each_pixel({s.n, s.oc, s.h, s.w, 0, 0}, [&](int64_t plain, int64_t) {
    const int64_t ox = plain % s.w, oy = plain / s.w % s.h, o = plain / (s.w * s.h) % s.oc;
    const int64_t n = plain / (s.w * s.h * s.oc), out = s.y().at(n, oy, ox) + o;
    if (y && !(y[out] > T(0))) return;
    const double g = static_cast<double>(dy[out]);
    db_sums.at[o] += g;
    for_each_tap(s, n, o, oy, ox, [&](int64_t xi, int64_t wi) {
      dx_sums.at[xi] += g * static_cast<double>(w[wi]);
      dw_sums.at[wi] += g * static_cast<double>(x[xi]);
    });
  });
  if (dx) dx_sums.round_to(dx);
  dw_sums.round_to(dw);
  db_sums.round_to(db);
}

template <class T>
void batch_norm_stats(const PaddedShape& s, const T* x, T* mean, T* var, int) {
  const double count = static_cast<double>(s.count());
  for (int64_t c = 0; c < s.c; ++c) {
    const auto value = [&](int64_t i) {
      return static_cast<double>(x[s.at(i / (s.h * s.w), i / s.w % s.h, i % s.w) + c]);
    };
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < s.count(); ++i) sum += value(i);
    const double centre = sum / count;
    for (int64_t i = 0; i < s.count(); ++i) squares += (value(i) - centre) * (value(i) - centre);
    mean[c] = static_cast<T>(centre);
    var[c] = static_cast<T>(squares / count);
  }
}

// Calls f(n, c, row, column of y, place in the window); without pool, a window is one pixel.
template <class F>
void for_each_normalised(const BatchNormShape& s, F f) {
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t c = 0; c < s.c; ++c)
      for (int64_t oy = 0; oy < s.y().h; ++oy)
        for (int64_t ox = 0; ox < s.y().w; ++ox)
          for (int64_t place = 0; place < (s.pool ? 4 : 1); ++place) f(n, c, oy, ox, place);
}

// Where a place of the window at (oy, ox) of y lies in x.
int64_t place_in_x(const BatchNormShape& s, int64_t n, int64_t oy, int64_t ox, int64_t place) {
  return s.pool ? s.x().at(n, 2 * oy + place / 2, 2 * ox + place % 2) : s.x().at(n, oy, ox);
}

template <class T>
double normalised(const BatchNormParams<T>& p, int64_t c, T x) {
  return (static_cast<double>(x) - static_cast<double>(p.mean[c])) * static_cast<double>(p.inv_std[c]);
}

template <class T>
double scaled(const BatchNormParams<T>& p, int64_t c, T x) {
  return normalised(p, c, x) * static_cast<double>(p.gamma[c]) + static_cast<double>(p.beta[c]);
}

template <class T>
void batch_norm_relu(const BatchNormShape& s, const T* x, const BatchNormParams<T>& p, T* y, uint8_t* argmax,
                     int) {
  memset(y, 0, sizeof(T) * static_cast<size_t>(s.n * s.y().sample()));
  for_each_normalised(s, [&](int64_t n, int64_t c, int64_t oy, int64_t ox, int64_t place) {
    const T value = relu_of(static_cast<T>(scaled(p, c, x[place_in_x(s, n, oy, ox, place) + c])));
    T* best = y + s.y().at(n, oy, ox) + c;
    if (place > 0 && !beats(value, *best)) return;
    *best = value;
    if (s.pool) argmax[((n * s.y().h + oy) * s.y().w + ox) * s.c + c] = static_cast<uint8_t>(place);
  });
}

template <class T>
void batch_norm_relu_backward(const BatchNormShape& s, const T* dy, const T* x, const uint8_t* argmax,
                              const BatchNormParams<T>& p, T* dx, T* dgamma, T* dbeta, int) {
  Sums<T> g(s.n * s.x().sample()), dgamma_sums(s.c), dbeta_sums(s.c);
  for_each_normalised(s, [&](int64_t n, int64_t c, int64_t oy, int64_t ox, int64_t place) {
    if (s.pool && argmax[((n * s.y().h + oy) * s.y().w + ox) * s.c + c] != place) return;
    const int64_t at = place_in_x(s, n, oy, ox, place) + c;
    if (!(static_cast<T>(scaled(p, c, x[at])) > T(0))) return;
    g.at[at] = static_cast<double>(dy[s.y().at(n, oy, ox) + c]);
    dbeta_sums.at[c] += g.at[at];
    dgamma_sums.at[c] += g.at[at] * normalised(p, c, x[at]);
  });
  for_each_pixel(s.x(), [&](int64_t, int64_t at) {
    const int64_t c = at % s.c;
    const double mean_part =
        (dbeta_sums.at[c] + normalised(p, c, x[at]) * dgamma_sums.at[c]) / static_cast<double>(s.x().count());
    dx[at] = static_cast<T>(static_cast<double>(p.gamma[c]) * static_cast<double>(p.inv_std[c]) *
                            (g.at[at] - mean_part));
  });
  dgamma_sums.round_to(dgamma);
  dbeta_sums.round_to(dbeta);
}

// Calls f(index into x (n,c,h,2w), index into the halves y).
template <class F>
void for_each_of_halves(const PaddedShape& s, F f) {
  for_each_pixel(s, [&](int64_t plain, int64_t padded) {
    const int64_t column = plain % s.w, row = plain / s.w % (s.c * s.h), half = plain / (s.w * s.h * s.c);
    f((half / 2 * s.c * s.h + row) * 2 * s.w + half % 2 * s.w + column, padded);
  });
}

template <class T>
void split_halves(const PaddedShape& s, const T* x, T* y, int) {
  memset(y, 0, sizeof(T) * static_cast<size_t>(s.n * s.sample()));
  for_each_of_halves(s, [&](int64_t plain, int64_t padded) { y[padded] = x[plain]; });
}

template <class T>
void join_halves(const PaddedShape& s, const T* y, T* x, int) {
  for_each_of_halves(s, [&](int64_t plain, int64_t padded) { x[plain] = y[padded]; });
}

template <class T>
void pair_logits(int64_t n, int64_t k, const T* scores, T* logits, int) {
  for (int64_t i = 0; i < n * k * k; ++i) {
    const T* left = scores + i / (k * k) * 2 * k;
    logits[i] = left[i / k % k] + left[k + i % k];
  }
}

template <class T>
void pair_logits_backward(int64_t n, int64_t k, const T* dlogits, T* dscores, int) {
  Sums<T> sums(2 * n * k);
  for (int64_t i = 0; i < n * k * k; ++i) {
    double* left = sums.at + i / (k * k) * 2 * k;
    left[i / k % k] += static_cast<double>(dlogits[i]);
    left[k + i % k] += static_cast<double>(dlogits[i]);
  }
  sums.round_to(dscores);
}

template <class T>
void linear(const LinearShape& s, const T* x, const T* w, const T* b, T* y, int) {
  for (int64_t i = 0; i < s.n * s.out; ++i) {
    const T* row = x + i / s.out * s.in;
    const T* weights = w + i % s.out * s.in;
    double sum = b ? static_cast<double>(b[i % s.out]) : 0.0;
    for (int64_t k = 0; k < s.in; ++k) sum += static_cast<double>(row[k]) * static_cast<double>(weights[k]);
    y[i] = static_cast<T>(sum);
  }
}

template <class T>
void linear_backward(const LinearShape& s, const T* dy, const T* x, const T* w, T* dx, T* dw, T* db, int) {
  if (dx) gemm<T>({s.n, s.in, s.out, false, false}, T(1), dy, w, T(0), dx, 1);
  gemm<T>({s.out, s.in, s.n, true, false}, T(1), dy, x, T(0), dw, 1);
  if (!db) return;
  for (int64_t j = 0; j < s.out; ++j) {
    double sum = 0;
    for (int64_t i = 0; i < s.n; ++i) sum += static_cast<double>(dy[i * s.out + j]);
    db[j] = static_cast<T>(sum);
  }
}

template <class T>
void relu(int64_t size, const T* x, T* y, int) {
  for (int64_t i = 0; i < size; ++i) y[i] = relu_of(x[i]);
}

template <class T>
void relu_backward(int64_t size, const T* dy, const T* y, T* dx, int) {
  for (int64_t i = 0; i < size; ++i) dx[i] = y[i] > T(0) ? dy[i] : T(0);
}

template <class T>
void dropout(int64_t size, double p, Stream stream, const T* x, T* y, uint8_t* mask, int) {
  const T scale = static_cast<T>(1.0 / (1.0 - p));
  for (int64_t i = 0; i < size; ++i) {
    const Bits4 bits = philox(stream, kDropout, static_cast<uint64_t>(i / 4));
    mask[i] = static_cast<double>(bits.w[i % 4]) >= p * 0x1p32;
    y[i] = mask[i] ? x[i] * scale : T(0);
  }
}

template <class T>
void dropout_backward(int64_t size, double p, const T* dy, const uint8_t* mask, T* dx, int) {
  const T scale = static_cast<T>(1.0 / (1.0 - p));
  for (int64_t i = 0; i < size; ++i) dx[i] = mask[i] ? dy[i] * scale : T(0);
}

template <class T>
void linear_block(const LinearShape& s, double p, Stream stream, const T* x, const T* w, const T* b, T* y,
                  int) {
  linear(s, x, w, b, y, 1);
  relu(s.n * s.out, y, y, 1);
  if (p == 0) return;
  const std::unique_ptr<uint8_t[]> mask(new uint8_t[static_cast<size_t>(s.n * s.out)]);
  dropout(s.n * s.out, p, stream, y, y, mask.get(), 1);
}

template <class T>
void linear_block_backward(const LinearShape& s, double p, const T* dy, const T* y, const T* x, const T* w,
                           T* dx, T* dw, T* db, int) {
  const T scale = static_cast<T>(1.0 / (1.0 - p));
  const std::unique_ptr<T[]> d(new T[static_cast<size_t>(s.n * s.out)]);
  for (int64_t i = 0; i < s.n * s.out; ++i) d[i] = y[i] > T(0) ? dy[i] * scale : T(0);
  linear_backward(s, d.get(), x, w, dx, dw, db, 1);
}

template <class T>
double row_max(const T* row, int64_t classes) {
  double largest = static_cast<double>(row[0]);
  for (int64_t j = 1; j < classes; ++j)
    if (static_cast<double>(row[j]) > largest) largest = static_cast<double>(row[j]);
  return largest;
}

template <class T>
void softmax(int64_t n, int64_t classes, const T* x, T* p, int) {
  for (int64_t i = 0; i < n; ++i) {
    const T* row = x + i * classes;
    const double largest = row_max(row, classes);
    double sum = 0;
    for (int64_t j = 0; j < classes; ++j) sum += __builtin_exp(static_cast<double>(row[j]) - largest);
    for (int64_t j = 0; j < classes; ++j)
      p[i * classes + j] = static_cast<T>(__builtin_exp(static_cast<double>(row[j]) - largest) / sum);
  }
}

template <class T>
double softmax_cross_entropy(int64_t n, int64_t classes, const T* logits, const int64_t* labels, T* dlogits,
                             int) {
  double loss = 0;
  for (int64_t i = 0; i < n; ++i) {
    const T* row = logits + i * classes;
    const double largest = row_max(row, classes);
    double sum = 0;
    for (int64_t j = 0; j < classes; ++j) sum += __builtin_exp(static_cast<double>(row[j]) - largest);
    loss += __builtin_log(sum) + (largest - static_cast<double>(row[labels[i]]));
    for (int64_t j = 0; j < classes; ++j) {
      const double p = __builtin_exp(static_cast<double>(row[j]) - largest) / sum;
      dlogits[i * classes + j] = static_cast<T>((p - (j == labels[i] ? 1.0 : 0.0)) / static_cast<double>(n));
    }
  }
  return loss / static_cast<double>(n);
}

template <class T>
void adam_step(int64_t size, const AdamParams& a, T* param, const T* grad, T* m, T* v, int) {
  const double correct1 = 1.0 - __builtin_pow(a.beta1, static_cast<double>(a.step));
  const double correct2 = 1.0 - __builtin_pow(a.beta2, static_cast<double>(a.step));
  for (int64_t i = 0; i < size; ++i) {
    const double p = static_cast<double>(param[i]);
    const double g = static_cast<double>(grad[i]) + a.l2 * p;
    const double m_new = a.beta1 * static_cast<double>(m[i]) + (1.0 - a.beta1) * g;
    const double v_new = a.beta2 * static_cast<double>(v[i]) + (1.0 - a.beta2) * g * g;
    m[i] = static_cast<T>(m_new);
    v[i] = static_cast<T>(v_new);
    const double change = (m_new / correct1) / (__builtin_sqrt(v_new / correct2) + a.eps);
    param[i] = static_cast<T>(p - a.lr * (change + a.decay * p));
  }
}

template <class T>
void sgd_step(int64_t size, const SgdParams& a, T* param, const T* grad, T* velocity, int) {
  for (int64_t i = 0; i < size; ++i) {
    const double p = static_cast<double>(param[i]);
    const double v = a.momentum * static_cast<double>(velocity[i]) + static_cast<double>(grad[i]) + a.l2 * p;
    velocity[i] = static_cast<T>(v);
    param[i] = static_cast<T>(p - a.lr * v);
  }
}

template <class T>
void ema_update(int64_t size, double decay, T* average, const T* param, int) {
  for (int64_t i = 0; i < size; ++i)
    average[i] = static_cast<T>(decay * static_cast<double>(average[i]) +
                                (1.0 - decay) * static_cast<double>(param[i]));
}

template <class T>
double sum_squares(int64_t size, const T* x, int) {
  double sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

constexpr int kSide = 28;

double pixel(const uint8_t* digit, int64_t y, int64_t x) {
  return y < 0 || y >= kSide || x < 0 || x >= kSide ? 0.0 : static_cast<double>(digit[y * kSide + x]);
}

// Node j's part at pixel x of the cubic B-spline with nodes at pixels -7.5, -0.5, 6.5, ...
double spline(int64_t j, int64_t x) {
  const double apart = __builtin_fabs((static_cast<double>(x) + 0.5) / 7.0 - static_cast<double>(j - 1));
  if (apart >= 2) return 0;
  const double tail = (2 - apart) * (2 - apart) * (2 - apart) / 6;
  return apart >= 1 ? tail : tail - 4 * (1 - apart) * (1 - apart) * (1 - apart) / 6;
}

// The elastic displacement of pixel (y, x), by draws of [downwards, right][7][7] nodes: of axis 0 or 1.
double displacement(double half_width, Stream stream, Purpose purpose, int64_t sample, int64_t axis,
                    int64_t y, int64_t x) {
  double sum = 0;
  for (int64_t i = 0; i < 7; ++i)
    for (int64_t j = 0; j < 7; ++j) {
      const int64_t at = (axis * 7 + i) * 7 + j;
      const Bits4 bits = philox(stream, purpose, static_cast<uint64_t>(25 * sample + at / 4));
      sum += spline(i, y) * spline(j, x) * uniform(bits.w[at % 4], half_width);
    }
  return sum;
}

// Output pixel (y, x) of a digit under the draws of block (sample, purpose): bilinear, 0 outside.
double warped_pixel(const InputParams& p, Stream stream, int64_t half, int64_t sample, const uint8_t* digit,
                    int64_t y, int64_t x) {
  if (p.rotate == 0 && p.scale == 0 && p.shear == 0 && p.translate == 0 && p.elastic == 0)
    return pixel(digit, y, x);
  const Purpose purpose = half == 0 ? kAffineLeft : kAffineRight;
  const Purpose elastic = half == 0 ? kElasticLeft : kElasticRight;
  const Bits4 first = philox(stream, purpose, 2 * static_cast<uint64_t>(sample));
  const Bits4 second = philox(stream, purpose, 2 * static_cast<uint64_t>(sample) + 1);
  const double angle = uniform(first.w[0], p.rotate);
  const double scale_y = 1.0 + uniform(first.w[1], p.scale);
  const double scale_x = 1.0 + uniform(first.w[2], p.scale);
  const double shear = uniform(first.w[3], p.shear);
  const double move_y = uniform(second.w[0], p.translate);
  const double move_x = uniform(second.w[1], p.translate);
  // The inverse map: output coordinates about the centre -> rotate back -> unshear -> unscale.
  const double v = static_cast<double>(y) - 13.5 - move_y;
  const double u = static_cast<double>(x) - 13.5 - move_x;
  const double rv = __builtin_cos(angle) * v - __builtin_sin(angle) * u;
  const double ru = __builtin_sin(angle) * v + __builtin_cos(angle) * u - shear * rv;
  const double sy = rv / scale_y + 13.5 + displacement(p.elastic, stream, elastic, sample, 0, y, x);
  const double sx = ru / scale_x + 13.5 + displacement(p.elastic, stream, elastic, sample, 1, y, x);
  const double y0 = __builtin_floor(sy);
  const double x0 = __builtin_floor(sx);
  const int64_t iy = static_cast<int64_t>(y0);
  const int64_t ix = static_cast<int64_t>(x0);
  const double fy = sy - y0;
  const double fx = sx - x0;
  return (1 - fy) * ((1 - fx) * pixel(digit, iy, ix) + fx * pixel(digit, iy, ix + 1)) +
         fy * ((1 - fx) * pixel(digit, iy + 1, ix) + fx * pixel(digit, iy + 1, ix + 1));
}

void input_batch(int64_t n, const InputParams& p, Stream stream, const uint8_t* digits, const int32_t* pairs,
                 const int64_t* samples, const float* mean, const float* inv_std, float* y, int) {
  for (int64_t i = 0; i < n; ++i) {
    const int64_t sample = samples[i];
    const Bits4 bits = philox(stream, kJitter, 2 * static_cast<uint64_t>(sample));
    const Bits4 more = philox(stream, kJitter, 2 * static_cast<uint64_t>(sample) + 1);
    // Multiply-high maps a word onto 0..2*shift with a bias below 2^-30.
    const int64_t shift =
        static_cast<int64_t>(uint64_t{bits.w[0]} * static_cast<uint64_t>(2 * p.shift + 1) >> 32) - p.shift;
    const double gain = 1.0 + p.contrast * normal(bits.w[1], bits.w[2]);
    const double offset = p.brightness * normal(more.w[0], more.w[1]);
    for (int64_t row = 0; row < kSide; ++row)
      for (int64_t column = 0; column < 2 * kSide; ++column) {
        const int64_t from = column - shift;
        double value = 0;
        if (from >= 0 && from < 2 * kSide) {
          const int64_t half = from / kSide;
          const uint8_t* digit = digits + int64_t{pairs[2 * sample + half]} * kSide * kSide;
          const double raw = warped_pixel(p, stream, half, sample, digit, row, from % kSide);
          const int64_t at = row * 2 * kSide + from;
          value = (raw / 255.0 - static_cast<double>(mean[at])) * static_cast<double>(inv_std[at]);
        }
        value = value * gain + offset;
        if (p.clip > 0) value = value < -p.clip ? -p.clip : value > p.clip ? p.clip : value;
        y[(i * kSide + row) * 2 * kSide + column] = static_cast<float>(value);
      }
  }
}

template <class T>
void fma_rounds(int64_t size, int64_t rounds, T a, T b, T* y, int) {
  for (int64_t i = 0; i < size; ++i)
    for (int64_t round = 0; round < rounds; ++round) y[i] = a * y[i] + b;
}

template <class T>
constexpr Kernels<T> filled = {
    "reference",
    gemm<T>,
    im2col<T>,
    col2im<T>,
    conv2d<T>,
    conv2d_backward<T>,
    max_pool2d<T>,
    max_pool2d_backward<T>,
    pad_nhwc<T>,
    unpad_nhwc<T>,
    conv_block<T>,
    conv_block_backward<T>,
    conv_same<T>,
    conv_same_backward<T>,
    batch_norm_stats<T>,
    batch_norm_relu<T>,
    batch_norm_relu_backward<T>,
    split_halves<T>,
    join_halves<T>,
    pair_logits<T>,
    pair_logits_backward<T>,
    linear<T>,
    linear_backward<T>,
    linear_block<T>,
    linear_block_backward<T>,
    relu<T>,
    relu_backward<T>,
    dropout<T>,
    dropout_backward<T>,
    softmax<T>,
    softmax_cross_entropy<T>,
    adam_step<T>,
    sgd_step<T>,
    ema_update<T>,
    sum_squares<T>,
    input_batch,
    fma_rounds<T>,
};

}  // namespace

const Kernels<float> reference::table_float = filled<float>;
const Kernels<double> reference::table_double = filled<double>;

void random_keys(int64_t size, Stream stream, uint64_t* keys) {
  for (int64_t i = 0; i < size; ++i) {
    const Bits4 bits = philox(stream, kKeys, static_cast<uint64_t>(i));
    keys[i] = (uint64_t{bits.w[0]} << 32) | bits.w[1];
  }
}

}  // namespace mnist100
