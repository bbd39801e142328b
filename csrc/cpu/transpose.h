// Matrices turned over in registers.
#pragma once

#include "shuffle.h"

namespace mnist100 {
namespace {

// rows[i][j] <-> rows[j][i] in log2(kLanes) rounds; each exchanges the off-diagonal blocks of all squares
// of 2 * Half rows.
template <int Half = kLanes / 2>
MNIST100_INLINE void transpose(Vec (&rows)[kLanes]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if (i & Half) continue;
    const Vec upper = rows[i], lower = rows[i + Half];
    rows[i] = shuffled<[](int lane) { return lane & Half ? lane - Half + kLanes : lane; }>(upper, lower);
    rows[i + Half] =
        shuffled<[](int lane) { return lane & Half ? lane + kLanes : lane + Half; }>(upper, lower);
  }
  if constexpr (Half > 1) transpose<Half / 2>(rows);
}

// to[j * to_row + i] = from[i * from_row + j] for i < rows, j < cols.
[[maybe_unused]] void transpose_matrix(int64_t rows, int64_t cols, const float* from, int64_t from_row,
                                       float* to, int64_t to_row) {
  if (rows == 1 && to_row == 1) {
    __builtin_memcpy(to, from, sizeof(float) * static_cast<size_t>(cols));
    return;
  }
  if (cols == 1 && from_row == 1) {
    __builtin_memcpy(to, from, sizeof(float) * static_cast<size_t>(rows));
    return;
  }
  for (int64_t i = 0; i < rows; i += kLanes)
    for (int64_t j = 0; j < cols; j += kLanes) {
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int lane = 0; lane < kLanes; ++lane)
        block[lane] = i + lane < rows ? load_first(from + (i + lane) * from_row + j, cols - j) : Vec{};
      transpose(block);
#pragma GCC unroll 16
      for (int lane = 0; lane < kLanes; ++lane)
        if (j + lane < cols) store_first(to + (j + lane) * to_row + i, block[lane], rows - i);
    }
}

}  // namespace
}  // namespace mnist100
