// The widest float vector of the instruction set this file is compiled for, as a GCC/Clang vector
// extension. All of it has internal linkage; no std:: inline function may be used beside it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "../kernels.h"

// For lambdas, which take the attribute after their parameters.
#define MNIST100_LAMBDA_INLINE __attribute__((always_inline))

namespace mnist100 {
namespace {

#if defined(MNIST100_VECTOR_BYTES)  // the compiler splits a wider vector than the target has
constexpr int kVectorBytes = MNIST100_VECTOR_BYTES;
#elif defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

constexpr int kLanes = kVectorBytes / 4;

typedef float Vec __attribute__((vector_size(kVectorBytes)));
typedef int32_t IntVec __attribute__((vector_size(kVectorBytes)));
typedef uint32_t UintVec __attribute__((vector_size(kVectorBytes)));
typedef float UnalignedVec __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));

MNIST100_INLINE Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
MNIST100_INLINE void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }

typedef int32_t UnalignedIntVec __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));

MNIST100_INLINE IntVec load_ints(const int32_t* p) { return *reinterpret_cast<const UnalignedIntVec*>(p); }
MNIST100_INLINE void store_ints(int32_t* p, IntVec v) { *reinterpret_cast<UnalignedIntVec*>(p) = v; }
MNIST100_INLINE IntVec ints_from(int32_t first, int32_t step) {  // first, first + step, ...
  IntVec lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  return lanes * step + first;
}

MNIST100_INLINE Vec splat(float x) { return x - Vec{}; }  // x - 0 is x, so this is one broadcast

MNIST100_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
MNIST100_INLINE int64_t max_of(int64_t a, int64_t b) { return a < b ? b : a; }
MNIST100_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
MNIST100_INLINE int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Calls f(chunk, worker) for every chunk in [0, chunks), worker in [0, threads). Which worker gets a
// chunk may vary from run to run: f must write nothing that depends on it but scratch.
template <class F>
void parallel_for(int64_t chunks, [[maybe_unused]] int threads, F f) {
#ifdef _OPENMP
  if (threads > 1 && chunks > 1) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t i = 0; i < chunks; ++i) f(i, omp_get_thread_num());
    return;
  }
#endif
  for (int64_t i = 0; i < chunks; ++i) f(i, 0);
}

// The same over [0, size) in runs of `grain`: f(begin, end).
template <class F>
void parallel_ranges(int64_t size, int64_t grain, int threads, F f) {
  parallel_for(ceil_div(size, grain), threads,
               [&](int64_t i, int) { f(i * grain, min_of(size, (i + 1) * grain)); });
}

}  // namespace
}  // namespace mnist100
