// Which elements inverted dropout keeps, in vectors.
#pragma once

#include "philox_simd.h"

namespace mnist100 {
namespace {

// kept ? x : 0, lane by lane; kept is all ones or all zeros.
MNIST100_INLINE Vec masked(UintVec kept, Vec x) {
  return reinterpret_cast<Vec>(reinterpret_cast<UintVec>(x) & kept);
}

// An element is kept, and multiplied by `scale`, if its bits >= p * 2^32 over the integers.
class Dropout {
 public:
  static constexpr int64_t kStep = 4 * PhiloxSimd::kBlocks;  // elements, two vectors of them

  struct Kept {
    UintVec at[2];
  };

  MNIST100_INLINE Dropout(double p, Stream stream)
      : scale(static_cast<float>(1.0 / (1.0 - p))), bits_(stream, kDropout) {
    const double limit = __builtin_ceil(p * 0x1p32);
    all_dropped_ = limit == 0x1p32 ? -1u : 0;  // p is so near 1 that no word reaches the limit
    limit_ = static_cast<uint32_t>(static_cast<uint64_t>(limit));
  }

  // For kStep elements from `at`, a multiple of 4.
  MNIST100_INLINE Kept kept(int64_t at) const {
    const PhiloxWords bits = bits_.words(static_cast<uint64_t>(at / 4));
    Kept found;
    for (int v = 0; v < 2; ++v) found.at[v] = reinterpret_cast<UintVec>(bits.at[v] >= limit_) & ~all_dropped_;
    return found;
  }

  const float scale;

 private:
  PhiloxSimd bits_;
  uint32_t limit_, all_dropped_;
};

}  // namespace
}  // namespace mnist100
