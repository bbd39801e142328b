// Operands that lie in memory as matrices.
#pragma once

#include "multiply.cuh"
#include "ops.cuh"

namespace mnist100::cuda {

// Element (index, k) of a matrix whose rows follow k, or (k, index) of one whose rows follow the index.
template <bool FastK>
struct Rows {
  static constexpr bool kFastK = FastK;
  const float* at;
  int stride;
  __device__ float operator()(int index, int k) const {
    return FastK ? at[static_cast<int64_t>(index) * stride + k]
                 : at[static_cast<int64_t>(k) * stride + index];
  }
};

}  // namespace mnist100::cuda
