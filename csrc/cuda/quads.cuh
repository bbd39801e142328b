// Four single-precision numbers at a time.
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

inline bool is_aligned(const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; }

// x[e] = at[e] for e < count; `aligned` says that four lie as 16 bytes want them.
__device__ inline void load_quad(const float* at, bool aligned, int count, float (&x)[4]) {
  if (aligned && count >= 4) {
#ifdef MNIST100_EMULATE
    memcpy(x, at, sizeof x);
#else
    const float4 four = *reinterpret_cast<const float4*>(at);
    x[0] = four.x;
    x[1] = four.y;
    x[2] = four.z;
    x[3] = four.w;
#endif
    return;
  }
  MNIST100_UNROLL
  for (int e = 0; e < 4; ++e)
    if (e < count) x[e] = at[e];
}

// In place of a count of elements: four, which lie as 16 bytes want them.
struct Whole {
  __device__ operator int() const { return 4; }
};

__device__ inline void load_quad(const float* at, bool, Whole, float (&x)[4]) { load_quad(at, true, 4, x); }

// `to` lies as 16 bytes want it.
__device__ inline void store_quad(float* to, const float (&x)[4]) {
#ifdef MNIST100_EMULATE
  memcpy(to, x, sizeof x);
#else
  *reinterpret_cast<float4*>(to) = make_float4(x[0], x[1], x[2], x[3]);
#endif
}

}  // namespace mnist100::cuda
