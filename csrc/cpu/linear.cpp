// Fully connected layers: three products, with bias, ReLU and dropout applied to each task's outputs while
// they are in cache.
#include "dropout.h"
#include "microkernel.h"
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

// Up to this many rows of x, each weight is used too few times to be worth packing.
constexpr int64_t kDotRows = 8;
// 2^16 multiply-adds, some 2 us, cover a chunk's share of a parallel region.
constexpr int64_t kDotWork = int64_t{1} << 16;

// What follows x w^T.
struct Epilogue {
  const float* bias;  // (out), or null
  bool relu;
  const Dropout* dropout;  // or null
  int64_t out;
};

MNIST100_INLINE Vec relu_of(Vec x) { return x < Vec{} ? Vec{} : x; }  // a NaN is kept

// Which of the kStep elements from `at`, any place, are kept. Philox blocks start at multiples of 4.
MNIST100_INLINE Dropout::Kept kept_from(const Dropout& dropout, int64_t at) {
  const int64_t ahead = at % 4;
  Dropout::Kept kept = dropout.kept(at - ahead);
  if (ahead > 0) {
    const Dropout::Kept both[2] = {kept, dropout.kept(at - ahead + Dropout::kStep)};
    __builtin_memcpy(&kept, reinterpret_cast<const char*>(both) + 4 * ahead, sizeof kept);
  }
  return kept;
}

void finish(const Epilogue& e, const Span& s, float* y) {
  if (!e.bias && !e.relu) return;
  for (int64_t row = s.row0; row < s.row1; ++row)
    for (int64_t step = s.col0; step < s.col1; step += 2 * kLanes) {
      Dropout::Kept kept;
      if (e.dropout) kept = kept_from(*e.dropout, row * e.out + step);
      for (int v = 0; v < 2; ++v) {
        const int64_t col = step + v * kLanes, rest = s.col1 - col;
        if (rest <= 0) break;
        const bool whole = rest >= kLanes;
        float* at = y + row * e.out + col;
        Vec value = whole ? load(at) : load_first(at, rest);
        if (e.bias) value += whole ? load(e.bias + col) : load_first(e.bias + col, rest);
        if (e.relu) value = relu_of(value);
        if (e.dropout) value = masked(kept.at[v], value * e.dropout->scale);
        whole ? store(at, value) : store_first(at, value, rest);
      }
    }
}

MNIST100_INLINE float sum_of(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// y[i * out + j] = x[i] . w[j] for R rows of x and W rows of w: the weights are read once, as they lie.
template <int R, int W>
void dot_rows(const LinearShape& s, const float* x, const float* w, float* y) {
  Vec sums[R][W] = {};
  const auto add = [&](auto load_at) MNIST100_LAMBDA_INLINE {
    Vec weights[W];
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j) weights[j] = load_at(w + j * s.in);
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      const Vec row = load_at(x + i * s.in);
#pragma GCC unroll 4
      for (int j = 0; j < W; ++j) sums[i][j] += row * weights[j];
    }
  };
  int64_t k = 0;
  for (; k + kLanes <= s.in; k += kLanes)
    add([&](const float* p) MNIST100_LAMBDA_INLINE { return load(p + k); });
  if (k < s.in) add([&](const float* p) MNIST100_LAMBDA_INLINE { return load_first(p + k, s.in - k); });
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < W; ++j) y[i * s.out + j] = sum_of(sums[i][j]);
}

// Columns col0..col1 of y.
void dot_block(const LinearShape& s, const float* x, const float* w, float* y, int64_t col0, int64_t col1) {
  constexpr int kGroup = 4;  // x 4 rows of x: 16 sums, as many as hide the latency of two FMA ports
  for (int64_t col = col0; col < col1; col += kGroup)
    for (int64_t row = 0; row < s.n; row += kGroup)
      with_rows<kGroup>(min_of(kGroup, s.n - row), [&](auto rows) MNIST100_LAMBDA_INLINE {
        with_rows<kGroup>(min_of(kGroup, col1 - col), [&](auto cols) MNIST100_LAMBDA_INLINE {
          dot_rows<decltype(rows)::value, decltype(cols)::value>(s, x + row * s.in, w + col * s.in,
                                                                 y + row * s.out + col);
        });
      });
}

void forward(const LinearShape& s, const Epilogue& e, const float* x, const float* w, float* y, int threads) {
  if (s.n == 0 || s.out == 0) return;
  if (s.n <= kDotRows) {
    const int64_t cols = round_up(ceil_div(kDotWork, max_of(1, s.n * s.in)), 4);
    parallel_ranges(s.out, cols, threads, [&](int64_t begin, int64_t end) {
      dot_block(s, x, w, y, begin, end);
      finish(e, {0, s.n, begin, end}, y);
    });
    return;
  }
  const Product p = {s.n, s.out, s.in, 1, {x, s.in, 1}, {w, 1, s.in}, 0, y, s.out};
  const Tasks tasks = product_tasks(p);
  float* panels = scratch_floats(threads * product_scratch());
  parallel_for(tasks.count(), threads, [&](int64_t i, int worker) {
    product_block(p, tasks.at(i), panels + worker * product_scratch());
    finish(e, tasks.at(i), y);
  });
}

constexpr int64_t kSumCols = 64;

// db[j] = sum over rows of dy[:, j], for kSumCols columns from `first`: four sums a column, for the latency.
void column_sums(const LinearShape& s, const float* dy, float* db, int64_t first) {
  for (int64_t col = first; col < min_of(s.out, first + kSumCols); col += kLanes) {
    const int64_t rest = s.out - col;
    Vec sums[4] = {};
    for (int64_t i = 0; i < s.n; ++i) {
      const float* at = dy + i * s.out + col;
      sums[i % 4] += rest >= kLanes ? load(at) : load_first(at, rest);
    }
    const Vec sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    rest >= kLanes ? store(db + col, sum) : store_first(db + col, sum, rest);
  }
}

// All gradients in one parallel region. `panels` holds product_scratch() floats a thread.
void backward(const LinearShape& s, const float* dy, const float* x, const float* w, float* dx, float* dw,
              float* db, float* panels, int threads) {
  // dx (n,in) = dy (n,out) w (out,in);  dw (out,in) = dy^T (out,n) x (n,in)
  const Product inputs = {s.n, s.in, s.out, 1, {dy, s.out, 1}, {w, s.in, 1}, 0, dx, s.in};
  const Product weights = {s.out, s.in, s.n, 1, {dy, 1, s.out}, {x, s.in, 1}, 0, dw, s.in};
  const Tasks dx_tasks = product_tasks(inputs), dw_tasks = product_tasks(weights);
  const int64_t dx_count = dx ? dx_tasks.count() : 0, products = dx_count + dw_tasks.count();
  const int64_t db_count = db ? ceil_div(s.out, kSumCols) : 0;
  parallel_for(products + db_count, threads, [&](int64_t i, int worker) {
    float* panel = panels + worker * product_scratch();
    if (i < dx_count)
      product_block(inputs, dx_tasks.at(i), panel);
    else if (i < products)
      product_block(weights, dw_tasks.at(i - dx_count), panel);
    else
      column_sums(s, dy, db, (i - products) * kSumCols);
  });
}

}  // namespace

void linear(const LinearShape& s, const float* x, const float* w, const float* b, float* y, int threads) {
  forward(s, {b, false, nullptr, s.out}, x, w, y, threads);
}

void linear_backward(const LinearShape& s, const float* dy, const float* x, const float* w, float* dx,
                     float* dw, float* db, int threads) {
  backward(s, dy, x, w, dx, dw, db, scratch_floats(threads * product_scratch()), threads);
}

void linear_block(const LinearShape& s, double p, Stream stream, const float* x, const float* w,
                  const float* b, float* y, int threads) {
  const Dropout dropout(p, stream);
  forward(s, {b, true, p > 0 ? &dropout : nullptr, s.out}, x, w, y, threads);
}

void linear_block_backward(const LinearShape& s, double p, const float* dy, const float* y, const float* x,
                           const float* w, float* dx, float* dw, float* db, int threads) {
  const int64_t size = s.n * s.out, panels = threads * product_scratch();
  const float scale = static_cast<float>(1.0 / (1.0 - p));
  float* panel = scratch_floats(panels + size);
  float* d = panel + panels;  // the gradient at x w^T + b
  parallel_ranges(size, 16384, threads, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float scaled = dy[i] * scale;
      d[i] = y[i] > 0 ? scaled : 0;
    }
  });
  backward(s, d, x, w, dx, dw, db, panel, threads);
}

}  // namespace mnist100::MNIST100_ISA
