// Multiply-adds on registers alone: what the arithmetic of a core can do at most, for bench/ to compare with.
#include "ops.h"

namespace mnist100::MNIST100_ISA {
namespace {

// Chains that do not wait for each other. Latency x ports is 4 x 2 = 8 on current x86, 4 x 4 = 16 on the
// widest ARM cores; with both operands the chains must fit the registers: 12 + 2 of 16, 24 + 2 of 32.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kChains = 24;
#else
constexpr int kChains = 12;
#endif
constexpr int64_t kBlock = kChains * kLanes;

MNIST100_INLINE void run_block(int64_t rounds, float a, float b, float* y) {
  const Vec va = splat(a), vb = splat(b);
  Vec chain[kChains];
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) chain[i] = load(y + i * kLanes);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) chain[i] = chain[i] * va + vb;
  }
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) store(y + i * kLanes, chain[i]);
}

}  // namespace

void fma_rounds(int64_t size, int64_t rounds, float a, float b, float* y, int threads) {
  parallel_ranges(size, kBlock, threads, [&](int64_t begin, int64_t end) {
    if (end - begin == kBlock) {
      run_block(rounds, a, b, y + begin);
      return;
    }
    float block[kBlock] = {};
    for (int64_t i = begin; i < end; ++i) block[i - begin] = y[i];
    run_block(rounds, a, b, block);
    for (int64_t i = begin; i < end; ++i) y[i] = block[i - begin];
  });
}

}  // namespace mnist100::MNIST100_ISA
