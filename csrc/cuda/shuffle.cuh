// Random orders and pairings of digits, as mnist100.functional.permutation and mnist100.data.pair make them.
#pragma once

#include "common.cuh"

namespace mnist100::cuda {

// order (n): 0 .. n-1 sorted by the Philox keys of the stream, equals by number.
void permutation(int64_t n, Stream, int64_t* order, cudaStream_t);
// pairs (repeats * digits, 2): in repeat r digit i has permutation r's i-th to its right; the permutations
// are those of the steps from `random.step` on.
void pair_digits(int64_t digits, int64_t repeats, Stream random, int32_t* pairs, cudaStream_t);

}  // namespace mnist100::cuda
