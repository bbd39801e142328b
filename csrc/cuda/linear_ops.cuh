// Operands that lie in memory as matrices.
#pragma once

#include "multiply.cuh"
#include "ops.cuh"

namespace mnist100::cuda {

// Element (index, k) of a matrix whose rows follow k, or (k, index) of one whose rows follow the index.
template <bool FastK>
class Rows {
 public:
  static constexpr bool kFastK = FastK, kQuadOfK = FastK;
  Rows(const float* at, int stride) : at_(at), stride_(stride), aligned_(stride % 4 == 0 && is_aligned(at)) {}
  __device__ int index(int i) const { return FastK ? i * stride_ : i; }
  __device__ int depth(int k) const { return FastK ? k : k * stride_; }
  __device__ bool is_whole(int) const { return aligned_; }
  using Raw = Plain;
  template <class Count>
  __device__ void load(int index, int k, Count count, Plain& to) const {
    load_quad(at_ + index + k, aligned_, count, to.x);
  }
  __device__ void finish(const Plain& raw, float (&x)[4]) const { raw.take(x); }

 private:
  const float* at_;
  int stride_;
  bool aligned_;
};

// The same matrix, scaled where another of its shape is positive, and zero elsewhere. That one null: as it
// is.
template <bool FastK>
class MaskedRows {
 public:
  static constexpr bool kFastK = FastK, kQuadOfK = FastK;
  MaskedRows(const float* at, const float* mask, float scale, int stride)
      : rows_(at, stride), masks_(mask, stride), scale_(scale), masked_(mask) {}
  __device__ int index(int i) const { return rows_.index(i); }
  __device__ int depth(int k) const { return rows_.depth(k); }
  struct Raw {
    Plain x, mask;
  };
  __device__ bool is_whole(int end) const {
    return rows_.is_whole(end) && (!masked_ || masks_.is_whole(end));
  }
  template <class Count>
  __device__ void load(int index, int k, Count count, Raw& to) const {
    rows_.load(index, k, count, to.x);
    if (masked_) masks_.load(index, k, count, to.mask);
  }
  __device__ void finish(const Raw& raw, float (&x)[4]) const {
    MNIST100_UNROLL
    for (int e = 0; e < 4; ++e)
      x[e] = !masked_ ? raw.x.x[e] : raw.mask.x[e] > 0.0f ? raw.x.x[e] * scale_ : 0.0f;
  }

 private:
  Rows<FastK> rows_, masks_;
  float scale_;
  bool masked_;
};

// The columns of a matrix (k, index), and behind them one of ones.
class RowsAndOnes {
 public:
  static constexpr bool kFastK = false, kQuadOfK = false;
  RowsAndOnes(const float* at, int stride) : rows_(at, stride), stride_(stride) {}
  __device__ int index(int i) const { return i; }
  __device__ int depth(int k) const { return rows_.depth(k); }
  __device__ bool is_whole(int end) const { return rows_.is_whole(end) && end <= stride_; }
  struct Raw {
    Plain x;
    int one;  // which of the four is one, from 1; 0: none
  };
  __device__ void load(int index, int k, Whole count, Raw& to) const { rows_.load(index, k, count, to.x); }
  __device__ void load(int index, int k, int count, Raw& to) const {
    const int inside = stride_ - index;
    rows_.load(index, k, count < inside ? count : inside, to.x);
    to.one = inside < count ? inside + 1 : 0;
  }
  __device__ void finish(const Raw& raw, float (&x)[4]) const {
    MNIST100_UNROLL
    for (int e = 0; e < 4; ++e) x[e] = raw.one == e + 1 ? 1.0f : raw.x.x[e];
  }

 private:
  Rows<false> rows_;
  int stride_;
};

}  // namespace mnist100::cuda
