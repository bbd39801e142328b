// philox.h for many blocks at once: the same bits.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../philox.h"
#include "shuffle.h"

namespace mnist100 {
namespace {

typedef uint64_t WideVec __attribute__((vector_size(kVectorBytes)));

// Products of the lower halves of 64-bit lanes. The extension's 64-bit product would take three times the
// work.
MNIST100_INLINE WideVec product_low(WideVec a, uint32_t b) {
  const WideVec wide = uint64_t{b} - WideVec{};
#if defined(MNIST100_VECTOR_BYTES) || !defined(__x86_64__)
  return (a & 0xFFFFFFFF) * wide;
#elif defined(__AVX512F__)
  // The zeroing form with nothing to zero: GCC 12 warns of the plain one in its own header.
  return reinterpret_cast<WideVec>(
      _mm512_maskz_mul_epu32(0xFF, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(wide)));
#elif defined(__AVX2__)
  return reinterpret_cast<WideVec>(
      _mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(wide)));
#else
  return reinterpret_cast<WideVec>(
      _mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(wide)));
#endif
}

MNIST100_INLINE WideVec halves_swapped(WideVec v) {
  const UintVec words = reinterpret_cast<UintVec>(v);
  return reinterpret_cast<WideVec>(shuffled<[](int i) { return i ^ 1; }>(words, words));
}

struct PhiloxWords {
  UintVec at[2];
};

// Blocks of one stream and purpose, kBlocks at a time.
class PhiloxSimd {
 public:
  static constexpr int kBlocks = kLanes / 2;  // 2 * kLanes words

  MNIST100_INLINE PhiloxSimd(Stream stream, Purpose purpose)
      : purpose_(uint64_t{purpose} << 48), step_(stream.step) {
    for (uint32_t round = 0; round < 10; ++round) {  // the constants of philox.h
      keys_[round][0] = static_cast<uint32_t>(stream.seed) + round * 0x9E3779B9;
      keys_[round][1] = static_cast<uint32_t>(stream.seed >> 32) + round * 0xBB67AE85;
    }
  }

  // The words of blocks first, first + 1, ... in order: at[v][i] is word (v * kLanes + i) % 4 of block
  // first + (v * kLanes + i) / 4, as philox() has it.
  MNIST100_INLINE PhiloxWords words(uint64_t first) const {
    // A 64-bit lane is a block's words (0, 1) or (2, 3). Even lanes are the blocks of at[0], odd lanes those
    // of at[1], so that joining the two pairs of every block needs no lane crossing.
    WideVec low;
    for (uint32_t i = 0; i < kBlocks; ++i) low[i] = i / 2 + i % 2 * (kBlocks / 2);
    low += first | purpose_;
    WideVec high = step_ - WideVec{};
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const WideVec p0 = product_low(low, 0xD2511F53), p1 = product_low(high, 0xCD9E8D57);
      low = halves_swapped(p1) ^ (low >> 32) ^ keys_[round][0];
      high = halves_swapped(p0) ^ (high >> 32) ^ keys_[round][1];
    }
    const WideVec even = shuffled<[](int i) { return i % 2 * kBlocks + (i & ~1); }>(low, high);
    const WideVec odd = shuffled<[](int i) { return i % 2 * kBlocks + (i | 1); }>(low, high);
    return {{reinterpret_cast<UintVec>(even), reinterpret_cast<UintVec>(odd)}};
  }

 private:
  uint64_t purpose_, step_;
  uint64_t keys_[10][2];  // 64 bits wide, to be broadcast from memory
};

}  // namespace
}  // namespace mnist100
