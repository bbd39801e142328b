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

// Matrices of eight rows of four words in shared memory, by all lanes of a warp together: lane 8 * i + r
// brings where row r of matrix i begins, 16 bytes aligned. words[i] = word t of row g of matrix i, for lane 4
// * g + t.
__device__ inline void load_fragments(const uint32_t* row, uint32_t (&words)[4]) {
#ifdef MNIST100_EMULATE
  emulation::load_fragments(row, words);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row))));
#endif
}

// A left fragment of 16 rows, from the first one on, kStride words from row to row.
template <int kStride>
__device__ void load_left(const uint32_t* first, uint32_t (&left)[4]) {
  static_assert(kStride % 4 == 0);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  load_fragments(first + lane % 16 * kStride + lane / 16 * 4, left);
}

// Right fragments of tiles of eight columns.
template <int kStride, int kTiles>
__device__ void load_right(const uint32_t* first, uint32_t (&right)[kTiles][2]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if constexpr (kStride % 4 == 0 && kTiles % 2 == 0) {
    MNIST100_UNROLL
    for (int c = 0; c < kTiles; c += 2) {
      uint32_t words[4];
      load_fragments(first + (8 * (c + lane / 16) + lane % 8) * kStride + lane / 8 % 2 * 4, words);
      MNIST100_UNROLL
      for (int i = 0; i < 4; ++i) right[c + i / 2][i % 2] = words[i];
    }
  } else {
    MNIST100_UNROLL
    for (int c = 0; c < kTiles; ++c) MNIST100_UNROLL
    for (int i = 0; i < 2; ++i) right[c][i] = first[(8 * c + lane / 4) * kStride + lane % 4 + i * 4];
  }
}

// The fragments of 16 columns whose elements lie in rows of k, `kStride` words from row to row: words 0 and 2
// are of columns 0 to 7, 1 and 3 of those from 8 on; as left fragment, or as two right ones.
template <class Format, int kStride>
__device__ void load_transposed(const uint32_t* first, uint32_t (&words)[4]) {
  static_assert(Format::kOfWord == 1 || kStride % 4 == 0);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, g = lane / 4, t = lane % 4;
  if constexpr (Format::kOfWord == 1) {
    MNIST100_UNROLL
    for (int i = 0; i < 4; ++i) words[i] = first[(t + i / 2 * 4) * kStride + i % 2 * 8 + g];
  } else {
#ifdef MNIST100_EMULATE
    const auto element = [&](int row, int column) {
      return first[row * kStride + column / 2] >> column % 2 * 16 & 0xffffu;
    };
    for (int i = 0; i < 4; ++i) {
      const int row = 2 * t + i / 2 * 8, column = i % 2 * 8 + g;
      words[i] = element(row, column) | element(row + 1, column) << 16;
    }
#else
    const uint32_t* const row = first + (lane % 8 + lane / 16 * 8) * kStride + lane / 8 % 2 * 4;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row))));
#endif
  }
}

}  // namespace mnist100::cuda
