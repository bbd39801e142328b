// Lane shuffles of any vector type, with the places computed at compile time.
#pragma once

#include <utility>

#include "simd.h"

namespace mnist100 {
namespace {

template <auto Place, class V, int... I>
MNIST100_INLINE V pick(V a, V b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, Place(I)...);
}

// Lane i of the result is lane Place(i) of `a` followed by `b`.
template <auto Place, class V>
MNIST100_INLINE V shuffled(V a, V b) {
  return pick<Place>(a, b, std::make_integer_sequence<int, sizeof(V) / sizeof(a[0])>{});
}

}  // namespace
}  // namespace mnist100
