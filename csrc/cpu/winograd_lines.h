// One dimension of Winograd's minimal filtering (Lavin & Gray, "Fast Algorithms for Convolutional Neural
// Networks", 2015), kOut results of three taps from kIn = kOut + 2 inputs: y = A^T [(G g) . (B^T d)]. Two
// nested ones make F(kOut x kOut, 3x3). Matrices are given by rows. kOne: the place of the point 1, which
// enters all results with a factor of one; -1 if it is none of the points.
#pragma once

#include "simd.h"

namespace mnist100 {
namespace {

// Points 0, 1, -1 and infinity. Whole numbers stay whole but for halves.
struct F2 {
  static constexpr int kOut = 2, kIn = 4, kOne = 1;

  // B^T: (1 0 -1 0) (0 1 1 0) (0 -1 1 0) (0 1 0 -1)
  MNIST100_INLINE static void patch(const Vec (&d)[4], Vec (&v)[4]) {
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[1] - d[3];
  }
  // G: (1 0 0) (1 1 1)/2 (1 -1 1)/2 (0 0 1)
  MNIST100_INLINE static void kernel(const Vec (&g)[3], Vec (&u)[4]) {
    u[0] = g[0];
    u[1] = 0.5f * ((g[0] + g[2]) + g[1]);
    u[2] = 0.5f * ((g[0] + g[2]) - g[1]);
    u[3] = g[2];
  }
  // A^T: (1 1 1 0) (0 1 -1 -1)
  MNIST100_INLINE static void result(const Vec (&m)[4], Vec (&y)[2]) {
    y[0] = (m[0] + m[1]) + m[2];
    y[1] = (m[1] - m[2]) - m[3];
  }
  MNIST100_INLINE static void gradient(const Vec (&y)[2], Vec (&v)[4]) {  // A
    v[0] = y[0];
    v[1] = y[0] + y[1];
    v[2] = y[0] - y[1];
    v[3] = -y[1];
  }
  MNIST100_INLINE static void taps(const Vec (&m)[4], Vec (&g)[3]) {  // G^T
    g[0] = m[0] + 0.5f * (m[1] + m[2]);
    g[1] = 0.5f * (m[1] - m[2]);
    g[2] = 0.5f * (m[1] + m[2]) + m[3];
  }
};

// Points 0, a, -a, b, -b and infinity, a = sqrt(1/2), b = sqrt(2): 36 products for 16 results where F2 takes
// 64, and rounding errors some seven times as large (with 1 and 2 for a and b, eighteen times).
struct F4 {
  static constexpr int kOut = 4, kIn = 6, kOne = -1;
  static constexpr float kA = 0.70710678118654752f, kB = 1.4142135623730950f;

  // B^T: (1 0 -5/2 0 1 0) (0 -2a -2 a 1 0) (0 2a -2 -a 1 0) (0 -b/2 -1/2 b 1 0) (0 b/2 -1/2 -b 1 0) (0 1 0
  // -5/2 0 1)
  MNIST100_INLINE static void patch(const Vec (&d)[6], Vec (&v)[6]) {
    const Vec even = d[4] - 2.0f * d[2], odd = kA * (d[3] - 2.0f * d[1]);
    const Vec even2 = d[4] - 0.5f * d[2], odd2 = kB * (d[3] - 0.5f * d[1]);
    v[0] = (d[0] + d[4]) - 2.5f * d[2];
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = even2 + odd2;
    v[4] = even2 - odd2;
    v[5] = (d[1] + d[5]) - 2.5f * d[3];
  }
  // G: (1 0 0) -(1 a 1/2)/1.5 -(1 -a 1/2)/1.5 (1 b 2)/6 (1 -b 2)/6 (0 0 1)
  MNIST100_INLINE static void kernel(const Vec (&g)[3], Vec (&u)[6]) {
    const Vec even = (g[0] + 0.5f * g[2]) * (-1 / 1.5f), odd = g[1] * (kA / 1.5f);
    const Vec even2 = (g[0] + 2.0f * g[2]) * (1 / 6.0f), odd2 = g[1] * (kB / 6);
    u[0] = g[0];
    u[1] = even - odd;
    u[2] = even + odd;
    u[3] = even2 + odd2;
    u[4] = even2 - odd2;
    u[5] = g[2];
  }
  // A^T: (1 1 1 1 1 0) (0 a -a b -b 0) (0 1/2 1/2 2 2 0) (0 a/2 -a/2 2b -2b 1)
  MNIST100_INLINE static void result(const Vec (&m)[6], Vec (&y)[4]) {
    const Vec even = m[1] + m[2], odd = kA * (m[1] - m[2]), even2 = m[3] + m[4], odd2 = kB * (m[3] - m[4]);
    y[0] = (m[0] + even) + even2;
    y[1] = odd + odd2;
    y[2] = 0.5f * even + 2.0f * even2;
    y[3] = (0.5f * odd + 2.0f * odd2) + m[5];
  }
  MNIST100_INLINE static void gradient(const Vec (&y)[4], Vec (&v)[6]) {  // A
    const Vec even = y[0] + 0.5f * y[2], odd = kA * (y[1] + 0.5f * y[3]);
    const Vec even2 = y[0] + 2.0f * y[2], odd2 = kB * (y[1] + 2.0f * y[3]);
    v[0] = y[0];
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = even2 + odd2;
    v[4] = even2 - odd2;
    v[5] = y[3];
  }
  MNIST100_INLINE static void taps(const Vec (&m)[6], Vec (&g)[3]) {  // G^T
    const Vec even = (m[1] + m[2]) * (1 / 1.5f), even2 = (m[3] + m[4]) * (1 / 6.0f);
    g[0] = (m[0] - even) + even2;
    g[1] = (m[2] - m[1]) * (kA / 1.5f) + (m[3] - m[4]) * (kB / 6);
    g[2] = (m[5] - 0.5f * even) + 2.0f * even2;
  }
};

}  // namespace
}  // namespace mnist100
