// Elastic deformation of a digit: a smooth field of displacements (Simard, Steinkraus & Platt, "Best
// practices for convolutional neural networks applied to visual document analysis", 2003). Random
// displacements at nodes seven pixels apart are interpolated by the cubic B-spline, which is as smooth as
// their Gaussian.
#pragma once

#include "../philox.h"
#include "simd.h"

namespace mnist100 {
namespace {

constexpr int kNodes = 7;     // each way: four cells of seven pixels, and one node more at either end
constexpr int kCellSide = 7;  // pixels

// at[j][x]: how much of node j there is at pixel x; beyond pixel 27, zero.
struct Spline {
  float at[kNodes][32];
};

Spline make_spline() {
  Spline spline = {};
  for (int x = 0; x < 4 * kCellSide; ++x) {
    const float t = (static_cast<float>(x % kCellSide) + 0.5f) / kCellSide, s = 1 - t;
    const int cell = x / kCellSide;
    spline.at[cell + 0][x] = s * s * s / 6;
    spline.at[cell + 1][x] = (4 - 3 * t * t * (1 + s)) / 6;
    spline.at[cell + 2][x] = (4 - 3 * s * s * (1 + t)) / 6;
    spline.at[cell + 3][x] = t * t * t / 6;
  }
  return spline;
}

// Displacements of the nodes, downwards and to the right.
struct Field {
  float y[kNodes][kNodes], x[kNodes][kNodes];
};

void draw_field(double half_width, Stream stream, Purpose purpose, int64_t sample, Field& field) {
  constexpr int kDraws = 2 * kNodes * kNodes, kBlocks = (kDraws + 3) / 4;  // 98 words of 25 blocks
  float draws[4 * kBlocks];
  for (int i = 0; i < kBlocks; ++i) {
    const Bits4 bits = philox(stream, purpose, static_cast<uint64_t>(kBlocks * sample + i));
    for (int j = 0; j < 4; ++j) draws[4 * i + j] = static_cast<float>(uniform(bits.w[j], half_width));
  }
  __builtin_memcpy(&field, draws, sizeof field);
}

// Displacements of one row of pixels.
struct Bend {
  float y[32], x[32];
};

MNIST100_INLINE void bend_row(const Spline& spline, const Field& field, int row, Bend& bend) {
  const int cell = row / kCellSide;
  float y[kNodes] = {}, x[kNodes] = {};
  for (int i = cell; i < cell + 4; ++i)
    for (int j = 0; j < kNodes; ++j) {
      y[j] += spline.at[i][row] * field.y[i][j];
      x[j] += spline.at[i][row] * field.x[i][j];
    }
  for (int at = 0; at < 32; at += kLanes) {
    Vec sum_y = {}, sum_x = {};
    for (int j = 0; j < kNodes; ++j) {
      const Vec part = load(spline.at[j] + at);
      sum_y += y[j] * part;
      sum_x += x[j] * part;
    }
    store(bend.y + at, sum_y);
    store(bend.x + at, sum_x);
  }
}

}  // namespace
}  // namespace mnist100
