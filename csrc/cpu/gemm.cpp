// Matrix product in the manner of GotoBLAS/BLIS (Van Zee & van de Geijn, "BLIS", TOMS 2015): operands
// are packed into panels that a register tile streams through, blocked for the caches.
#include "microkernel.h"
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

// A k-block of one A panel (12 x 256 floats, 12 KiB) and one B panel (32 x 256, 32 KiB at most) share
// L1; a task's A block (96 x 256, 96 KiB) and B block (256 x 256, 256 KiB) share a 512 KiB L2.
constexpr int64_t kDepth = 256;
constexpr int64_t kTaskRows = 96;
constexpr int64_t kTaskCols = 256;
constexpr int64_t kMinTaskRows = 24;
constexpr int64_t kMinTaskCols = 64;
static_assert(kTaskRows % kRows == 0 && kMinTaskRows % kRows == 0 && kMinTaskCols % kCols == 0);
// Packed at a time by product_parallel: 1.5 MiB of A and 4 MiB of B, an L3's worth.
constexpr int64_t kPackRows = 16 * kTaskRows;
constexpr int64_t kPackCols = 16 * kTaskCols;
// Enough tasks to even out over any usual number of threads.
constexpr int64_t kWantedTasks = 16;
// A product with fewer tasks than this and a depth to spare is cut along the depth instead.
constexpr int64_t kFewTasks = 8;
constexpr int64_t kSplitDepth = 1024;
constexpr int64_t kMaxSplits = 16;

// Panel of `width` rows (of a) or columns (of b): dst[k * width + i], zero beyond `valid`.
// `across` and `along` are the strides between panel lanes and between k-steps.
void pack_panel(const float* src, int64_t across, int64_t along, int64_t valid, int64_t width, int64_t depth,
                float* dst) {
  if (valid == width && across == 1) {
    for (int64_t k = 0; k < depth; ++k)
      __builtin_memcpy(dst + k * width, src + k * along, sizeof(float) * static_cast<size_t>(width));
    return;
  }
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t i = 0; i < valid; ++i) dst[k * width + i] = src[i * across + k * along];
    for (int64_t i = valid; i < width; ++i) dst[k * width + i] = 0;
  }
}

void pack_a_panel(const Product& p, int64_t row, int64_t k0, int64_t depth, float* dst) {
  pack_panel(p.a.at + row * p.a.rows + k0 * p.a.cols, p.a.rows, p.a.cols, min_of(kRows, p.m - row), kRows,
             depth, dst);
}

void pack_b_panel(const Product& p, int64_t col, int64_t k0, int64_t depth, float* dst) {
  pack_panel(p.b.at + col * p.b.cols + k0 * p.b.rows, p.b.cols, p.b.rows, min_of(kCols, p.n - col), kCols,
             depth, dst);
}

// C[row.., col..] = alpha * tile + beta * C, for the part of the tile inside C.
void write_tile(const Tile<kRows, kVecs>& tile, const Product& p, float beta, int64_t row, int64_t col) {
  float* c = p.c + row * p.ldc + col;
  if (row + kRows <= p.m && col + kCols <= p.n) {
    for (int i = 0; i < kRows; ++i)
      for (int j = 0; j < kVecs; ++j) {
        float* at = c + i * p.ldc + j * kLanes;
        const Vec product = splat(p.alpha) * tile.at[i][j];
        store(at, beta == 0 ? product : product + splat(beta) * load(at));
      }
    return;
  }
  float edge[kRows * kCols];
  tile.store_to(edge, kCols);
  for (int64_t i = 0; i < min_of(kRows, p.m - row); ++i)
    for (int64_t j = 0; j < min_of(kCols, p.n - col); ++j) {
      const float product = p.alpha * edge[i * kCols + j];
      float* at = c + i * p.ldc + j;
      *at = beta == 0 ? product : product + beta * *at;
    }
}

// The block C[row0..row1, col0..col1] from packed panels that start at those rows and columns.
void multiply_block(const Product& p, float beta, int64_t depth, int64_t row0, int64_t row1, int64_t col0,
                    int64_t col1, const float* packed_a, const float* packed_b) {
  for (int64_t col = col0; col < col1; col += kCols) {
    const float* b = packed_b + (col - col0) * depth;
    for (int64_t row = row0; row < row1; row += kRows) {
      Tile<kRows, kVecs> tile;
      tile.clear();
      tile.add_product(depth, packed_a + (row - row0) * depth, 1, kRows, b, kCols);
      write_tile(tile, p, beta, row, col);
    }
  }
}

// Calls f(k0, depth, beta) for each k-block; once with depth 0 when k is 0, so that beta is applied.
template <class F>
void for_each_depth(const Product& p, F f) {
  int64_t k0 = 0;
  do {
    const int64_t depth = min_of(kDepth, p.k - k0);
    f(k0, depth, k0 == 0 ? p.beta : 1.0f);
    k0 += kDepth;
  } while (k0 < p.k);
}

struct Tasks {
  int64_t rows, cols;
};

// Task sizes from the shape alone, so that the result does not depend on the number of threads.
Tasks choose_tasks(int64_t m, int64_t n) {
  Tasks t = {kTaskRows, kTaskCols};
  while (ceil_div(m, t.rows) * ceil_div(n, t.cols) < kWantedTasks) {
    if (t.cols > kMinTaskCols && n > t.cols / 2)
      t.cols /= 2;
    else if (t.rows > kMinTaskRows && m > t.rows / 2)
      t.rows /= 2;
    else
      break;
  }
  return t;
}

void product_split(const Product& p, int64_t splits, int threads) {
  const int64_t size = p.m * p.n;
  float* partial = static_cast<float*>(
      scratch(sizeof(float) * static_cast<size_t>(splits * size + threads * product_scratch())));
  float* blocks = partial + splits * size;
  const int64_t depth = ceil_div(p.k, splits);
  parallel_for(splits, threads, [&](int64_t split, int worker) {
    const int64_t k0 = split * depth;
    Product part = p;
    part.k = max_of(0, min_of(depth, p.k - k0));
    part.alpha = 1;
    part.beta = 0;
    part.a.at += k0 * p.a.cols;
    part.b.at += k0 * p.b.rows;
    part.c = partial + split * size;
    part.ldc = p.n;
    product_serial(part, blocks + worker * product_scratch());
  });
  for (int64_t i = 0; i < size; ++i) {
    float sum = 0;
    for (int64_t split = 0; split < splits; ++split) sum += partial[split * size + i];
    float* at = p.c + i / p.n * p.ldc + i % p.n;
    *at = p.beta == 0 ? p.alpha * sum : p.alpha * sum + p.beta * *at;
  }
}

}  // namespace

int64_t product_scratch() { return kDepth * (kTaskRows + kTaskCols); }

void product_serial(const Product& p, float* scratch_block) {
  float* packed_a = scratch_block;
  float* packed_b = scratch_block + kDepth * kTaskRows;
  for (int64_t col0 = 0; col0 < p.n; col0 += kTaskCols) {
    const int64_t col1 = min_of(p.n, col0 + kTaskCols);
    for_each_depth(p, [&](int64_t k0, int64_t depth, float beta) {
      for (int64_t col = col0; col < col1; col += kCols)
        pack_b_panel(p, col, k0, depth, packed_b + (col - col0) * depth);
      for (int64_t row0 = 0; row0 < p.m; row0 += kTaskRows) {
        const int64_t row1 = min_of(p.m, row0 + kTaskRows);
        for (int64_t row = row0; row < row1; row += kRows)
          pack_a_panel(p, row, k0, depth, packed_a + (row - row0) * depth);
        multiply_block(p, beta, depth, row0, row1, col0, col1, packed_a, packed_b);
      }
    });
  }
}

void product_parallel(const Product& p, int threads) {
  if (p.m == 0 || p.n == 0) return;
  const Tasks task = choose_tasks(p.m, p.n);
  const int64_t tasks = ceil_div(p.m, task.rows) * ceil_div(p.n, task.cols);
  if (tasks < kFewTasks && p.k >= 2 * kSplitDepth) {
    product_split(p, min_of(kMaxSplits, p.k / kSplitDepth), threads);
    return;
  }
  const int64_t pack_rows = min_of(kPackRows, round_up(p.m, kRows));
  const int64_t pack_cols = min_of(kPackCols, round_up(p.n, kCols));
  float* packed_a =
      static_cast<float*>(scratch(sizeof(float) * static_cast<size_t>(kDepth * (pack_rows + pack_cols))));
  float* packed_b = packed_a + kDepth * pack_rows;
  for (int64_t col0 = 0; col0 < p.n; col0 += kPackCols) {
    const int64_t col1 = min_of(p.n, col0 + kPackCols);
    for_each_depth(p, [&](int64_t k0, int64_t depth, float beta) {
      const int64_t b_packs = ceil_div(col1 - col0, kMinTaskCols);
      for (int64_t row0 = 0; row0 < p.m; row0 += kPackRows) {
        const int64_t row1 = min_of(p.m, row0 + kPackRows);
        const int64_t a_packs = ceil_div(row1 - row0, kMinTaskRows);
        parallel_for(a_packs + (row0 == 0 ? b_packs : 0), threads, [&](int64_t i, int) {
          if (i < a_packs) {
            const int64_t first = row0 + i * kMinTaskRows;
            for (int64_t row = first; row < min_of(row1, first + kMinTaskRows); row += kRows)
              pack_a_panel(p, row, k0, depth, packed_a + (row - row0) * depth);
          } else {
            const int64_t first = col0 + (i - a_packs) * kMinTaskCols;
            for (int64_t col = first; col < min_of(col1, first + kMinTaskCols); col += kCols)
              pack_b_panel(p, col, k0, depth, packed_b + (col - col0) * depth);
          }
        });
        const int64_t row_tasks = ceil_div(row1 - row0, task.rows);
        parallel_for(row_tasks * ceil_div(col1 - col0, task.cols), threads, [&](int64_t i, int) {
          const int64_t row = row0 + i % row_tasks * task.rows;
          const int64_t col = col0 + i / row_tasks * task.cols;
          multiply_block(p, beta, depth, row, min_of(row1, row + task.rows), col,
                         min_of(col1, col + task.cols), packed_a + (row - row0) * depth,
                         packed_b + (col - col0) * depth);
        });
      }
    });
  }
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
