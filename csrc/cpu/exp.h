// The exponential of a vector.
#pragma once

#include "simd.h"

namespace mnist100 {
namespace {

// exp(x) for x <= 0 (or NaN, which stays) within 1.5 ulp; 0 where the result is below FLT_MIN = 2^-126.
// x = n ln 2 + r with |r| <= ln 2 / 2. The Taylor polynomial of degree 7 leaves r^8 / 8! = 5e-9 of 1, a
// twelfth of an ulp.
MNIST100_INLINE Vec exp_of_negative(Vec x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693145752f, kLn2Low = 1.42860677e-6f;  // n * kLn2High is exact: 15 + 7 bits
  constexpr float kSmallest = -87.3365448f;                           // ln FLT_MIN
  constexpr float kShift = 0x1.8p23f;  // adding it rounds to a whole number, in the low bits of the sum
  const Vec shifted = x * kLog2E + kShift;
  const Vec n = shifted - kShift;
  const Vec r = (x - n * kLn2High) - n * kLn2Low;
  Vec p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const UintVec power = reinterpret_cast<UintVec>(shifted) << 23;  // n in the exponent's place
  const Vec scaled = reinterpret_cast<Vec>(reinterpret_cast<UintVec>(p) + power);
  return x < kSmallest ? Vec{} : x != x ? x : scaled;
}

}  // namespace
}  // namespace mnist100
