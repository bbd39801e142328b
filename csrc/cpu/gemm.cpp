// Matrix product in the manner of GotoBLAS/BLIS (Van Zee & van de Geijn, "BLIS", TOMS 2015), with one
// operand packed: a block of B that stays in L1 while all rows of a task stream past it. The register tile
// broadcasts single floats of A, which it can do from any layout.
#include "microkernel.h"
#include "ops.h"
#include "pack.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int64_t kDepth = 256;  // of a k-block: a tile's place in C is read and written once for each
// Below 128 rows packing a transposed panel takes over 6 % of the time: 1/4 cycle an element to pack, and
// rows / 32 cycles to use it.
constexpr int64_t kMinTaskRows = 128;
constexpr int64_t kMinTaskCols = 64;
constexpr int64_t kManyTasks = 8;  // from here on whole panels weigh more than equal tasks
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
// A packed block: one deep panel (48 KiB with AVX-512), or as many shallow ones as are no larger.
constexpr int64_t kBlockFloats = kDepth * kWide * kLanes;

// An operand of more floats, 16 MiB, comes from memory rather than from a cache, and is asked for ahead.
constexpr int64_t kFar = int64_t{1} << 22;

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

// Rows of A times a k-block of columns of B: `wide` panels of `vecs` vectors, then some of one fewer. Panels
// and tiles are as equal as can be: 4 vectors are 2 + 2, not 3 + 1; 28 rows are 10 + 9 + 9.
struct Block {
  Span at;
  int64_t k0, depth, panels, vecs, wide;
  float beta;
  const float* next;  // where the next block of B begins, if its rows are contiguous, or null
  float* packed;
};

void pack_panel(const Matrix& m, const float* from, int64_t width, int64_t depth, float* panel) {
  const int64_t padded = round_up(width, kLanes);
  for (int64_t j = 0; j < width; j += kLanes)
    if (m.cols == 1)
      pack_rows(from + j, m.rows, width - j, depth, panel + j, padded);
    else
      pack_transposed(from + j * m.cols, m.cols, width - j, depth, panel + j, padded);
}

// What to ask for, a line at a time, while a tile is multiplied: at[k * step] at step k.
struct Ahead {
  const float* at;  // or null
  int64_t step;
};

// Operands from memory, not from a cache: with the first tiles after the one that packs, one line each of the
// next block's rows; with others the next rows of A, if they lie one behind the other.
template <int R>
MNIST100_INLINE Ahead ahead_of(const Product& p, const Block& b, int64_t row, int64_t tile) {
  constexpr int64_t kLine = 16;  // floats
  if (b.next && p.k * p.n > kFar && tile > 0 && tile <= ceil_div(kWide * kLanes, kLine))
    return {b.next + (tile - 1) * kLine, p.b.rows};
  if (p.m * p.k > kFar && p.a.cols == 1 && p.a.rows == b.depth && row + 2 * R <= b.at.row1)
    return {p.a.at + (row + R) * p.a.rows, R};
  return {nullptr, 0};
}

// One tile: the rows from `row` by the panel at `col`, which a block's first rows pack.
template <int R, int V>
MNIST100_INLINE void multiply_tile(const Product& p, const Block& b, int64_t row, int64_t col, float* panel,
                                   const Ahead& ahead) {
  const int64_t width = min_of(V * kLanes, b.at.col1 - col);
  const float* from = p.b.at + b.k0 * p.b.rows + col * p.b.cols;
  const float* a = p.a.at + row * p.a.rows + b.k0 * p.a.cols;
  const bool first = row == b.at.row0, packs = first && p.b.cols == 1 && width == V * kLanes;
  if (first && !packs) pack_panel(p.b, from, width, b.depth, panel);
  Tile<R, V> tile;
  tile.clear();
  const auto multiply = [&](int64_t row_stride, int64_t step) MNIST100_LAMBDA_INLINE {
    if (packs)
      tile.add_product_packing(b.depth, a, row_stride, step, from, p.b.rows, panel);
    else if (ahead.at)
      tile.add_product_ahead(b.depth, a, row_stride, step, panel, ahead.at, ahead.step);
    else
      tile.add_product(b.depth, a, row_stride, step, panel, V * kLanes);
  };
  p.a.cols == 1 ? multiply(p.a.rows, 1) : multiply(1, p.a.cols);
  write_tile(tile, p.alpha, b.beta, p.c + row * p.ldc + col, p.ldc, width);
}

// R rows by all panels of a block: whole rows of a narrow C are written one after another.
template <int R>
void multiply_rows(const Product& p, const Block& b, int64_t row, int64_t tile) {
  const Ahead ahead = ahead_of<R>(p, b, row, tile);
  float* panel = b.packed;
  int64_t col = b.at.col0;
  for (int64_t i = 0; i < b.panels; ++i) {
    const int64_t vecs = i < b.wide ? b.vecs : b.vecs - 1;
    with_rows<kWide>(vecs, [&](auto count) MNIST100_LAMBDA_INLINE {
      constexpr int V = decltype(count)::value;
      if constexpr (R <= kTileRows<V>) multiply_tile<R, V>(p, b, row, col, panel, ahead);
    });
    panel += vecs * kLanes * b.depth;
    col += vecs * kLanes;
  }
}

void multiply_block(const Product& p, const Block& b) {
  const int64_t most = b.vecs == kWide ? kTileRows<kWide> : kRows;
  const int64_t tiles = ceil_div(b.at.row1 - b.at.row0, most);
  int64_t row = b.at.row0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t rows = ceil_div(b.at.row1 - row, tiles - tile);
    with_rows<kRows>(rows, [&](auto count) MNIST100_LAMBDA_INLINE {
      multiply_rows<decltype(count)::value>(p, b, row, tile);
    });
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

int64_t product_scratch() { return kBlockFloats; }

Tasks product_tasks(const Product& p) {
  // The longer side is cut first: rows of C in few pieces, and few times the same packing.
  const int64_t wanted = wanted_tasks(p);
  const int64_t most_rows = max_of(1, ceil_div(p.m, kMinTaskRows));
  const int64_t most_cols = max_of(1, ceil_div(p.n, kMinTaskCols));
  int64_t row_tasks = min_of(wanted, most_rows), col_tasks = min_of(wanted, most_cols);
  if (p.m > p.n)
    col_tasks = min_of(col_tasks, ceil_div(wanted, row_tasks));
  else
    row_tasks = min_of(row_tasks, ceil_div(wanted, col_tasks));
  const int64_t unit = col_tasks < kManyTasks ? kLanes : kWide * kLanes;
  return {p.m, p.n, max_of(1, ceil_div(p.m, row_tasks)),
          max_of(kLanes, round_up(ceil_div(p.n, col_tasks), unit))};
}

void product_block(const Product& p, const Span& s, float* packed) {
  const int64_t k_blocks = max_of(1, ceil_div(p.k, kDepth));  // one even if k is 0, to apply beta
  const int64_t deepest = max_of(1, ceil_div(p.k, k_blocks));
  const int64_t most_vecs = kBlockFloats / (kWide * kLanes * deepest) * kWide;
  for (int64_t i = 0; i < k_blocks; ++i) {
    const int64_t k0 = p.k * i / k_blocks, k1 = p.k * (i + 1) / k_blocks;
    int64_t col = s.col0;
    for (int64_t blocks = ceil_div(s.col1 - s.col0, most_vecs * kLanes); blocks > 0; --blocks) {
      const int64_t all = ceil_div(ceil_div(s.col1 - col, kLanes), blocks), end = col + all * kLanes;
      const int64_t panels = ceil_div(all, kWide), vecs = ceil_div(all, panels);
      const Span at = {s.row0, s.row1, col, min_of(s.col1, end)};
      const int64_t next = blocks > 1 ? k0 * p.b.rows + end : i + 1 < k_blocks ? k1 * p.b.rows + s.col0 : -1;
      multiply_block(p, {at, k0, k1 - k0, panels, vecs, all - panels * (vecs - 1), i == 0 ? p.beta : 1.0f,
                         next < 0 || p.b.cols != 1 ? nullptr : p.b.at + next, packed});
      col = end;
    }
  }
}

void product_serial(const Product& p, float* packed) { product_block(p, {0, p.m, 0, p.n}, packed); }

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
