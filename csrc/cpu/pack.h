// Packing of a product's right operand into panels: dst[k * width + i], zero beyond the edge.
#pragma once

#include "transpose.h"

namespace mnist100 {
namespace {

// One vector's width of a panel from `valid` rows, `stride` apart, that are contiguous along k.
inline void pack_transposed(const float* src, int64_t stride, int64_t valid, int64_t depth, float* dst,
                            int64_t width) {
  for (int64_t k = 0; k < depth; k += kLanes) {
    const int64_t steps = min_of(kLanes, depth - k);
    Vec block[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      const float* row = src + i * stride + k;
      block[i] = i >= valid ? Vec{} : steps == kLanes ? load(row) : load_first(row, steps);
    }
    transpose(block);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i)
      if (i < steps) store(dst + (k + i) * width, block[i]);
  }
}

// The same from rows, `stride` apart, of which `valid` contiguous floats belong to the panel.
inline void pack_rows(const float* src, int64_t stride, int64_t valid, int64_t depth, float* dst,
                      int64_t width) {
  if (valid >= kLanes)
    for (int64_t k = 0; k < depth; ++k) store(dst + k * width, load(src + k * stride));
  else
    for (int64_t k = 0; k < depth; ++k) store(dst + k * width, load_first(src + k * stride, valid));
}

}  // namespace
}  // namespace mnist100
