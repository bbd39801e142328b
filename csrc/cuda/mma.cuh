// Tensor cores: the warp-wide product of a 16-row and an 8-column fragment, eight words of k deep (PTX ISA,
// "Matrix fragments for mma.m16n8k16 with floating point type" and "for mma.m16n8k8"). A word is two
// bfloat16 or one TF32, so that both kinds of fragment lie alike: lane 4 * g + t holds the words
//   a: (row g, word t), (g + 8, t), (g, t + 4), (g + 8, t + 4);  b: (word t, column g), (t + 4, g)
// and the sums c: (row g, columns 2t and 2t + 1), (row g + 8, columns 2t and 2t + 1).
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

constexpr int kWordsOfMma = 8;

struct Bf16 {
  static constexpr int kOfWord = 2;  // elements of k

  // To nearest, ties to even; NaN stays.
  __device__ static uint32_t word(const float (&x)[2]) {
#ifdef MNIST100_EMULATE
    return rounded(x[0]) | (rounded(x[1]) << 16);
#else
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(x[1]), "f"(x[0]));
    return word;
#endif
  }

#ifdef MNIST100_EMULATE
  static uint32_t rounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return (bits >> 16) | 0x40;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  }
  static double product(uint32_t a, uint32_t b) {
    return value(a << 16) * value(b << 16) + value(a & 0xffff0000u) * value(b & 0xffff0000u);
  }

 private:
  static double value(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return static_cast<double>(x);
  }
#else
  __device__ static void mma(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#endif
};

struct Tf32 {
  static constexpr int kOfWord = 1;

  // To nearest, ties away from zero; NaN stays.
  __device__ static uint32_t word(const float (&x)[1]) {
#ifdef MNIST100_EMULATE
    uint32_t bits;
    memcpy(&bits, &x[0], sizeof bits);
    return x[0] != x[0] ? bits : (bits + 0x1000) & ~0x1fffu;
#else
    uint32_t word;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x[0]));
    return word;
#endif
  }

#ifdef MNIST100_EMULATE
  static double product(uint32_t a, uint32_t b) {
    float x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    return static_cast<double>(x) * static_cast<double>(y);
  }
#else
  __device__ static void mma(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#endif
};

// c += a b, by all lanes of a warp together.
template <class Format>
__device__ inline void mma(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4]) {
#ifdef MNIST100_EMULATE
  emulation::mma<Format>(a, b, c);
#else
  Format::mma(a, b, c);
#endif
}

}  // namespace mnist100::cuda
