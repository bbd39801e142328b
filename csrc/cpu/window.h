// A 2x2 window of convolution results in registers.
#pragma once

#include "simd.h"

namespace mnist100 {
namespace {

// Its four results, in row-major order.
struct Window {
  Vec a, b, c, d;

  // `spoilt` is 0 for as long as all results were finite: an infinity or a NaN makes it NaN for good.
  MNIST100_INLINE void add_to(Vec& spoilt) const { spoilt += ((a + b) + (c + d)) * 0.0f; }
};

MNIST100_INLINE bool is_spoilt(Vec spoilt) { return bits_of(spoilt != Vec{}) != 0; }

}  // namespace
}  // namespace mnist100
