// Ranges of whole index arrays, checked before a kernel reads through them.
#include "cpu/simd.h"
#include "kernels.h"

namespace mnist100 {
namespace {

constexpr int64_t kGrain = 65536;  // 256 KiB of int32: a few microseconds

// v lies in [0, stop) if neither v nor stop - 1 - v is negative: sign bits, which gather in one OR.
template <class U, class T>
bool all_inside(int64_t size, const T* values, T stop) {
  U outside = 0;
  for (int64_t i = 0; i < size; ++i) {
    const U v = static_cast<U>(values[i]);
    outside |= v | (static_cast<U>(stop) - 1 - v);
  }
  return outside >> (8 * sizeof(U) - 1) == 0;
}

template <class U, class T>
int64_t first_outside_of(int64_t size, const T* values, T stop, int threads) {
  int found = 0;
  parallel_ranges(size, kGrain, threads, [&](int64_t begin, int64_t end) {
    if (!all_inside<U>(end - begin, values + begin, stop)) __atomic_store_n(&found, 1, __ATOMIC_RELAXED);
  });
  if (!found) return -1;
  int64_t i = 0;
  while (values[i] >= 0 && values[i] < stop) ++i;
  return i;
}

}  // namespace

int64_t first_outside(int64_t size, const int32_t* values, int32_t stop, int threads) {
  return first_outside_of<uint32_t>(size, values, stop, threads);
}

int64_t first_outside(int64_t size, const int64_t* values, int64_t stop, int threads) {
  return first_outside_of<uint64_t>(size, values, stop, threads);
}

}  // namespace mnist100
