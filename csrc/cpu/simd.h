// The widest float vector of the instruction set this file is compiled for, as a GCC/Clang vector
// extension. All of it has internal linkage; no std:: inline function may be used beside it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

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
typedef float UnalignedVec __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));

MNIST100_INLINE Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
MNIST100_INLINE void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
MNIST100_INLINE Vec splat(float x) { return x - Vec{}; }  // x - 0 is x, so this is one broadcast

// The first `count` lanes, 0 < count < kLanes; the others are zero, or not written. Nothing beyond them is
// touched.
MNIST100_INLINE Vec load_first(const float* p, int64_t count) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
#elif defined(__AVX2__) && !defined(MNIST100_VECTOR_BYTES)
  const IntVec lane = {0, 1, 2, 3, 4, 5, 6, 7};
  return _mm256_maskload_ps(p, reinterpret_cast<__m256i>(lane < static_cast<int32_t>(count)));
#else
  Vec v = {};
  for (int i = 0; i < count; ++i) v[i] = p[i];
  return v;
#endif
}

MNIST100_INLINE void store_first(float* p, Vec v, int64_t count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), v);
#elif defined(__AVX2__) && !defined(MNIST100_VECTOR_BYTES)
  const IntVec lane = {0, 1, 2, 3, 4, 5, 6, 7};
  _mm256_maskstore_ps(p, reinterpret_cast<__m256i>(lane < static_cast<int32_t>(count)), v);
#else
  for (int i = 0; i < count; ++i) p[i] = v[i];
#endif
}

MNIST100_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
MNIST100_INLINE int64_t max_of(int64_t a, int64_t b) { return a < b ? b : a; }
MNIST100_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
MNIST100_INLINE int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// This thread's scratch block, as floats.
MNIST100_INLINE float* scratch_floats(int64_t count) {
  return static_cast<float*>(scratch(sizeof(float) * static_cast<size_t>(count)));
}

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
