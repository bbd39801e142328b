// ReLU and max over a 2x2 window whose four convolution results are in registers.
#pragma once

#include "window.h"

namespace mnist100 {
namespace {

// Where the pooled row of a sample goes: pixels of `oc` channels.
struct PooledRow {
  int64_t oc;
  float* y;
  uint8_t* argmax;

  // Channels [first, first + kLanes) of window px, those beyond oc left out.
  MNIST100_INLINE void store_at(int64_t px, int64_t first, Vec value, IntVec place) const {
    float* to = y + px * oc + first;
    uint8_t* to_place = argmax + px * oc + first;
    if (first + kLanes <= oc) {
      store(to, value);
      narrow(to_place, place);
      return;
    }
    for (int64_t i = 0; first + i < oc; ++i) {
      to[i] = value[i];
      to_place[i] = static_cast<uint8_t>(place[i]);
    }
  }
};

// Window px, its results finite.
MNIST100_INLINE void pool_window(const PooledRow& row, int64_t px, int64_t first, const Window& w) {
  const Vec largest = larger(larger(w.a, w.b), larger(w.c, w.d));
  IntVec place = w.c == largest ? IntVec{} + 2 : IntVec{} + 3;
  place = w.b == largest ? IntVec{} + 1 : place;
  place = w.a == largest ? IntVec{} : place;
  const IntVec live = largest > Vec{};
  row.store_at(px, first, live ? largest : Vec{}, place & live);
}

// The largest of relu(window[i]) and its place, with the order that kernels.h gives NaN.
MNIST100_INLINE Vec first_largest(const Vec (&window)[4], IntVec& place) {
  Vec best = Vec{} - 1.0f;
  place = IntVec{};
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Vec value = window[i] < Vec{} ? Vec{} : window[i];  // a NaN is kept
    const IntVec better = (value > best) | (value != value);
    best = better ? value : best;
    place = better ? IntVec{} + i : place;
  }
  return best;
}

// The same from two rows of results, pixels `stride` floats apart.
[[maybe_unused]] void pool_rows(const PooledRow& row, int64_t windows, const float* top, const float* bottom,
                                int64_t stride) {
  for (int64_t px = 0; px < windows; ++px)
    for (int64_t o = 0; o < row.oc; o += kLanes) {
      const Vec window[4] = {load(top + 2 * px * stride + o), load(top + (2 * px + 1) * stride + o),
                             load(bottom + 2 * px * stride + o), load(bottom + (2 * px + 1) * stride + o)};
      IntVec place;
      const Vec best = first_largest(window, place);
      row.store_at(px, o, best, place);
    }
}

}  // namespace
}  // namespace mnist100
