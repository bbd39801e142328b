// Philox-4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
// Everything here has internal linkage, so that no instruction set's copy can serve another's.
#pragma once

#include <stdint.h>

#include "kernels.h"

namespace mnist100 {
namespace {

// What a block of random bits is for; two purposes never share a counter. Start values and permutations are
// both made of kKeys.
enum Purpose : uint32_t {
  kDropout = 0,
  kAffineLeft = 1,
  kAffineRight = 2,
  kJitter = 3,
  kKeys = 4,
  kElasticLeft = 5,
  kElasticRight = 6
};

struct Bits4 {
  uint32_t w[4];
};

// Block `index` (up to 2^48) of `purpose` (up to 2^16) in the stream.
MNIST100_HOST_DEVICE inline Bits4 philox(Stream stream, Purpose purpose, uint64_t index) {
  uint32_t c0 = static_cast<uint32_t>(index);
  uint32_t c1 = static_cast<uint32_t>(index >> 32) | (static_cast<uint32_t>(purpose) << 16);
  uint32_t c2 = static_cast<uint32_t>(stream.step);
  uint32_t c3 = static_cast<uint32_t>(stream.step >> 32);
  uint32_t k0 = static_cast<uint32_t>(stream.seed);
  uint32_t k1 = static_cast<uint32_t>(stream.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9;  // Weyl constants: golden ratio, sqrt(3) - 1
    k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

// The open interval (0, 1): the middle of one of 2^32 cells.
MNIST100_HOST_DEVICE inline double uniform01(uint32_t bits) {
  return (static_cast<double>(bits) + 0.5) * 0x1p-32;
}

MNIST100_HOST_DEVICE inline double uniform(uint32_t bits, double half_width) {
  return (2.0 * uniform01(bits) - 1.0) * half_width;
}

// Box-Muller: one N(0, 1) from two words.
MNIST100_HOST_DEVICE inline double normal(uint32_t bits_r, uint32_t bits_phi) {
  const double r = __builtin_sqrt(-2.0 * __builtin_log(uniform01(bits_r)));
  return r * __builtin_cos(6.283185307179586 * uniform01(bits_phi));
}

}  // namespace
}  // namespace mnist100
