// Division of indices by sizes that a kernel gets: a multiplication, where the division of integers would be
// a loop of some twenty instructions (Granlund & Montgomery, "Division by invariant integers using
// multiplication", PLDI 1994).
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

class Divisor {
 public:
  // magic = ceil(2^shift / by) with 2^(shift - 31) >= by, so that it fits in 32 bits and quotients of
  // numbers below 2^31 are exact.
  explicit Divisor(int by) : by_(by) {
    while ((int64_t{1} << (shift_ - 31)) < by) ++shift_;
    const uint64_t power = uint64_t{1} << shift_, divisor = static_cast<uint64_t>(by > 0 ? by : 1);
    magic_ = static_cast<uint32_t>((power + divisor - 1) / divisor);
  }
  __host__ __device__ int by() const { return by_; }
  __device__ int quotient(int n) const {
    return static_cast<int>((static_cast<uint64_t>(static_cast<uint32_t>(n)) * magic_) >> shift_);
  }

 private:
  int by_, shift_ = 31;
  uint32_t magic_;
};

}  // namespace mnist100::cuda
