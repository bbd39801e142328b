// Matrix product in the manner of GotoBLAS/BLIS (Van Zee & van de Geijn, "BLIS", TOMS 2015), with one
// operand packed: a panel of B that stays in L1 while all rows of a task stream past it from L2. The
// register tile broadcasts single floats of A, which it can do from any layout.
#include "microkernel.h"
#include "ops.h"
#include "pack.h"

namespace mnist100::MNIST100_ISA {
namespace {

// A panel of B is 256 x 32 floats at most, 32 KiB; a k-block of a task's rows, 512 x 256, is half a MiB.
constexpr int64_t kDepth = 256;
constexpr int64_t kMaxTaskRows = 512;
// Below 128 rows packing a transposed panel takes over 6 % of the time: 1/4 cycle an element to pack, and
// rows / 32 cycles to use it.
constexpr int64_t kMinTaskRows = 128;
constexpr int64_t kMinTaskCols = 64;
// A task is worth 2^20 multiply-adds, some 12 us, to cover its share of a parallel region; 64 of them even
// out over any usual number of threads.
constexpr int64_t kTaskWork = int64_t{1} << 20;
constexpr int64_t kWantedTasks = 64;
// Partial sums of a product that is cut along k.
constexpr int64_t kMaxParts = 32;
constexpr int64_t kMinPartDepth = 2 * kDepth;

// A panel is up to kWide vectors wide, and its tiles as high as registers allow: 9 x 3 with AVX-512, for
// 39 instructions to 27 multiply-adds, where 12 x 2 takes 38 to 24.
constexpr int kWide = kVectorBytes == 64 ? 3 : 2;
template <int V>
constexpr int kTileRows = V == 3 ? 9 : kRows;

// C[row.., col..] = alpha * tile + beta * C, for the first `width` columns of the tile.
template <int R, int V>
MNIST100_INLINE void write_tile(const Tile<R, V>& tile, float alpha, float beta, float* c, int64_t ldc,
                                int64_t width) {
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < V; ++j) {
      float* at = c + i * ldc + j * kLanes;
      const Vec product = splat(alpha) * tile.at[i][j];
      const int64_t rest = width - j * kLanes;
      if (rest >= kLanes)
        store(at, beta == 0 ? product : product + splat(beta) * load(at));
      else
        store_first(at, beta == 0 ? product : product + splat(beta) * load_first(at, rest), rest);
    }
}

// One panel of V vectors, by one k-block.
template <int V>
void multiply_panel(const Product& p, float beta, int64_t k0, int64_t depth, const Span& s, float* panel) {
  const int64_t width = s.col1 - s.col0;
  const float* b = p.b.at + k0 * p.b.rows + s.col0 * p.b.cols;
  bool packed = p.b.cols != 1 || width < V * kLanes;
  if (packed)
    for (int64_t j = 0; j < width; j += kLanes) {
      if (p.b.cols == 1)
        pack_rows(b + j, p.b.rows, width - j, depth, panel + j, V * kLanes);
      else
        pack_transposed(b + j * p.b.cols, p.b.cols, width - j, depth, panel + j, V * kLanes);
    }
  int64_t row = s.row0;
  // Tiles as equal as can be: 28 rows are 10 + 9 + 9, not 12 + 12 + 4.
  for (int64_t tiles = ceil_div(s.row1 - row, kTileRows<V>); tiles > 0; --tiles) {
    const int64_t rows = ceil_div(s.row1 - row, tiles);
    const float* a = p.a.at + row * p.a.rows + k0 * p.a.cols;
    float* c = p.c + row * p.ldc + s.col0;
    with_rows<kTileRows<V>>(rows, [&](auto count) MNIST100_LAMBDA_INLINE {
      Tile<decltype(count)::value, V> tile;
      tile.clear();
      if (packed)
        tile.add_product(depth, a, p.a.rows, p.a.cols, panel, V * kLanes);
      else  // the first tile packs the rows of B as it reads them
        tile.add_product_packing(depth, a, p.a.rows, p.a.cols, b, p.b.rows, panel);
      write_tile(tile, p.alpha, beta, c, p.ldc, width);
    });
    packed = true;
    row += rows;
  }
}

// The product cut along k: every part's sum in memory, then their sum in order.
void product_in_parts(const Product& p, int64_t parts, int threads) {
  const int64_t size = p.m * p.n;
  const int64_t panels = threads * product_scratch();
  float* panel = scratch_floats(panels + parts * size);
  float* partial = panel + panels;
  parallel_for(parts, threads, [&](int64_t i, int worker) {
    const int64_t k0 = p.k * i / parts;
    Product part = {p.m, p.n, p.k * (i + 1) / parts - k0, 1, p.a, p.b, 0, partial + i * size, p.n};
    part.a.at += k0 * p.a.cols;
    part.b.at += k0 * p.b.rows;
    product_serial(part, panel + worker * product_scratch());
  });
  sum_partials(size, parts, partial, partial, threads);
  for (int64_t i = 0; i < p.m; ++i)
    for (int64_t j = 0; j < p.n; ++j) {
      float* at = p.c + i * p.ldc + j;
      const float product = p.alpha * partial[i * p.n + j];
      *at = p.beta == 0 ? product : product + p.beta * *at;
    }
}

// What a product's size allows of tasks, 1 to kWantedTasks.
int64_t wanted_tasks(const Product& p) {
  return max_of(1, min_of(kWantedTasks, p.m * p.n * p.k / kTaskWork));
}

}  // namespace

int64_t product_scratch() { return kDepth * kWide * kLanes; }

Tasks product_tasks(const Product& p) {
  // Columns are cut first: a panel is packed once for each task that needs it.
  const int64_t wanted = wanted_tasks(p);
  const int64_t col_tasks = max_of(1, min_of(wanted, ceil_div(p.n, kMinTaskCols)));
  const int64_t by_count = min_of(ceil_div(wanted, col_tasks), ceil_div(p.m, kMinTaskRows));
  const int64_t row_tasks = max_of(1, max_of(by_count, ceil_div(p.m, kMaxTaskRows)));
  return {p.m, p.n, max_of(1, ceil_div(p.m, row_tasks)),
          max_of(kLanes, round_up(ceil_div(p.n, col_tasks), kLanes))};
}

void product_block(const Product& p, const Span& s, float* panel) {
  const int64_t blocks = max_of(1, ceil_div(p.k, kDepth));  // one even if k is 0, to apply beta
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t k0 = p.k * block / blocks;
    const int64_t depth = p.k * (block + 1) / blocks - k0;
    const float beta = block == 0 ? p.beta : 1.0f;
    int64_t col = s.col0;
    // Panels as equal as can be: 4 vectors are 2 + 2, not 3 + 1.
    for (int64_t panels = ceil_div(s.col1 - col, kWide * kLanes); panels > 0; --panels) {
      const int64_t vecs = ceil_div(ceil_div(s.col1 - col, kLanes), panels);
      const Span columns = {s.row0, s.row1, col, min_of(s.col1, col + vecs * kLanes)};
      with_rows<kWide>(vecs, [&](auto count) MNIST100_LAMBDA_INLINE {
        multiply_panel<decltype(count)::value>(p, beta, k0, depth, columns, panel);
      });
      col = columns.col1;
    }
  }
}

void product_serial(const Product& p, float* panel) { product_block(p, {0, p.m, 0, p.n}, panel); }

void product_parallel(const Product& p, int threads) {
  if (p.m == 0 || p.n == 0) return;
  const Tasks tasks = product_tasks(p);
  const int64_t parts = min_of(min_of(wanted_tasks(p), kMaxParts), p.k / kMinPartDepth);
  if (parts > tasks.count()) {
    product_in_parts(p, parts, threads);
    return;
  }
  float* panels = scratch_floats(threads * product_scratch());
  parallel_for(tasks.count(), threads, [&](int64_t i, int worker) {
    product_block(p, tasks.at(i), panels + worker * product_scratch());
  });
}

void gemm(const GemmShape& s, float alpha, const float* a, const float* b, float beta, float* c,
          int threads) {
  const Matrix ma = s.trans_a ? Matrix{a, 1, s.m} : Matrix{a, s.k, 1};
  const Matrix mb = s.trans_b ? Matrix{b, 1, s.k} : Matrix{b, s.n, 1};
  product_parallel({s.m, s.n, s.k, alpha, ma, mb, beta, c, s.n}, threads);
}

void sum_partials(int64_t size, int64_t chunks, const float* partial, float* out, int threads) {
  parallel_ranges(size, 4096, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = partial[i];
    for (int64_t chunk = 1; chunk < chunks; ++chunk)
      for (int64_t i = begin; i < end; ++i) out[i] += partial[chunk * size + i];
  });
}

}  // namespace mnist100::MNIST100_ISA
