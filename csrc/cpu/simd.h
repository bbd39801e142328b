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

#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

#include "../kernels.h"

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
typedef uint8_t ByteVec __attribute__((vector_size(kLanes)));
typedef uint32_t UintVec __attribute__((vector_size(kVectorBytes)));
typedef float UnalignedVec __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
typedef int32_t UnalignedIntVec __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
typedef uint8_t UnalignedByteVec __attribute__((vector_size(kLanes), aligned(1), may_alias));

MNIST100_INLINE Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
MNIST100_INLINE void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
MNIST100_INLINE IntVec load_ints(const int32_t* p) { return *reinterpret_cast<const UnalignedIntVec*>(p); }
MNIST100_INLINE void store_ints(int32_t* p, IntVec v) { *reinterpret_cast<UnalignedIntVec*>(p) = v; }
MNIST100_INLINE IntVec ints_from(int32_t first, int32_t step) {  // first, first + step, ...
  IntVec lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  return lanes * step + first;
}

MNIST100_INLINE Vec splat(float x) { return x - Vec{}; }  // x - 0 is x, so this is one broadcast

MNIST100_INLINE Vec larger(Vec a, Vec b) { return a > b ? a : b; }

// Asks for the lines of `size` floats, to read or to write; they need not exist.
template <int Write>
MNIST100_INLINE void prefetch(const float* p, int64_t size) {
  for (int64_t i = 0; i < size; i += 16) __builtin_prefetch(p + i, Write);
}

// The first `count` lanes; of fewer than all, the others are zero, or not written, and nothing beyond is
// touched.
MNIST100_INLINE Vec load_first(const float* p, int64_t count) {
  if (count >= kLanes) return load(p);
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
#elif defined(__AVX2__) && !defined(MNIST100_VECTOR_BYTES)
  return _mm256_maskload_ps(p, reinterpret_cast<__m256i>(ints_from(0, 1) < static_cast<int32_t>(count)));
#else
  Vec v = {};
  for (int i = 0; i < count; ++i) v[i] = p[i];
  return v;
#endif
}
MNIST100_INLINE void store_first(float* p, Vec v, int64_t count) {
  if (count >= kLanes) return store(p, v);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), v);
#elif defined(__AVX2__) && !defined(MNIST100_VECTOR_BYTES)
  _mm256_maskstore_ps(p, reinterpret_cast<__m256i>(ints_from(0, 1) < static_cast<int32_t>(count)), v);
#else
  for (int i = 0; i < count; ++i) p[i] = v[i];
#endif
}

// Bit i tells whether lane i of a comparison holds. The extension has no such operation.
MNIST100_INLINE uint32_t bits_of(IntVec holds) {
#if defined(__AVX512DQ__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(holds));
#elif defined(__AVX__) && !defined(MNIST100_VECTOR_BYTES)
  return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(holds)));
#elif defined(__SSE4_1__) && !defined(MNIST100_VECTOR_BYTES)
  return static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(holds)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= (static_cast<uint32_t>(holds[i]) & 1u) << i;
  return bits;
#endif
}

// Bytes to lanes and back; lanes hold 0..255. GCC 12 makes scalar code of __builtin_convertvector here.
MNIST100_INLINE IntVec widen(const uint8_t* p) {
#if defined(__AVX512F__)
  return reinterpret_cast<IntVec>(
      _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__) && !defined(MNIST100_VECTOR_BYTES)
  return reinterpret_cast<IntVec>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#elif defined(__SSE4_1__) && !defined(MNIST100_VECTOR_BYTES)
  return reinterpret_cast<IntVec>(_mm_cvtepu8_epi32(_mm_loadu_si32(p)));
#else
  return __builtin_convertvector(*reinterpret_cast<const UnalignedByteVec*>(p), IntVec);
#endif
}
MNIST100_INLINE void narrow(uint8_t* p, IntVec v) {
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm512_maskz_cvtepi32_epi8(0xffff, reinterpret_cast<__m512i>(v)));
#elif defined(__AVX2__) && !defined(MNIST100_VECTOR_BYTES)
  const __m256i all = reinterpret_cast<__m256i>(v);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
#elif defined(__SSE4_1__) && !defined(MNIST100_VECTOR_BYTES)
  const __m128i words = _mm_packus_epi32(reinterpret_cast<__m128i>(v), reinterpret_cast<__m128i>(v));
  _mm_storeu_si32(p, _mm_packus_epi16(words, words));
#else
  *reinterpret_cast<UnalignedByteVec*>(p) = __builtin_convertvector(v, ByteVec);
#endif
}

// Four floats from each of two places, side by side in the lower eight lanes. (Copied through memory, the
// halves would stall the load of the whole.)
MNIST100_INLINE Vec load_pair(const float* low, const float* high) {
#if defined(__AVX512F__)
  const __m256 pair = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
  return __builtin_shufflevector(pair, pair, 0, 1, 2, 3, 4, 5, 6, 7, -1, -1, -1, -1, -1, -1, -1, -1);
#elif defined(__AVX2__) && !defined(MNIST100_VECTOR_BYTES)
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
#else
  Vec pair = {};
  for (int i = 0; i < 8 && i < kLanes; ++i) pair[i] = i < 4 ? low[i] : high[i - 4];
  return pair;
#endif
}

// Lane i is v[place[i]], 0 <= place[i] < kLanes.
MNIST100_INLINE Vec permute(Vec v, IntVec place) {
#if defined(__AVX512F__)
  // The unmasked form starts from an undefined value, of which GCC 12 warns.
  return _mm512_maskz_permutexvar_ps(0xffff, reinterpret_cast<__m512i>(place), v);
#elif defined(__AVX2__) && !defined(MNIST100_VECTOR_BYTES)
  return _mm256_permutevar8x32_ps(v, reinterpret_cast<__m256i>(place));
#else
  Vec found;
  for (int i = 0; i < kLanes; ++i) found[i] = v[place[i]];
  return found;
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
