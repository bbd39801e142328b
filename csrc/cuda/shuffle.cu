// Sorting is bitonic (Batcher 1968): as fast as anything for the 60,000 keys of an epoch, and the same steps
// whatever the keys are. The inner steps of a tile run in shared memory.
#include "shuffle.cuh"

#include "device_memory.cuh"
#include "philox.h"

namespace mnist100::cuda {
namespace {

constexpr int kTile = 1024;  // keys of a block, two of each thread

struct Key {
  uint64_t bits;
  int64_t number;
};

__global__ void draw_keys(int size, int padded, Stream random, Key* keys) {
  await_previous();
  const int i = element();
  if (i >= padded) return;
  const Bits4 bits = philox(random, kKeys, static_cast<uint64_t>(i));
  // What fills up to a power of two comes last: its number is larger.
  keys[i] = {i < size ? (uint64_t{bits.w[0]} << 32) | bits.w[1] : UINT64_MAX, i};
}

// Puts two keys in ascending order, or in descending order in every second run of `run`.
__device__ void order_two(Key& low, Key& high, int place, int run) {
  const bool is_greater = low.bits != high.bits ? low.bits > high.bits : low.number > high.number;
  if (is_greater != ((place & run) == 0)) return;
  const Key kept = low;
  low = high;
  high = kept;
}

// Of thread `i`, the lower of two places that are `apart`, a power of two.
__device__ int lower_place(int i, int apart) { return 2 * i - (i & (apart - 1)); }

__global__ void merge_step(int run, int apart, Key* keys) {
  await_previous();
  const int low = lower_place(element(), apart);
  order_two(keys[low], keys[low + apart], low, run);
}

// All steps within a tile of the merges to runs of first_run to last_run.
__global__ void __launch_bounds__(kTile / 2) merge_tile(int first_run, int last_run, Key* keys) {
  await_previous();
  __shared__ Key tile[kTile];
  const int self = static_cast<int>(threadIdx.x), from = static_cast<int>(blockIdx.x) * kTile;
  for (int i = self; i < kTile; i += kTile / 2) tile[i] = keys[from + i];
  for (int run = first_run; run <= last_run; run *= 2)
    for (int apart = (run < kTile ? run : kTile) / 2; apart > 0; apart /= 2) {
      __syncthreads();
      const int low = lower_place(self, apart);
      order_two(tile[low], tile[low + apart], from + low, run);
    }
  __syncthreads();
  for (int i = self; i < kTile; i += kTile / 2) keys[from + i] = tile[i];
}

__global__ void write_order(int size, const Key* keys, int64_t* order) {
  await_previous();
  const int i = element();
  if (i < size) order[i] = keys[i].number;
}

__global__ void write_pairs(int size, const int64_t* right, int32_t* pairs) {
  await_previous();
  const int i = element();
  if (i >= size) return;
  pairs[2 * i] = i;
  pairs[2 * i + 1] = static_cast<int32_t>(right[i]);
}

}  // namespace

void permutation(int64_t n, Stream random, int64_t* order, cudaStream_t stream) {
  int padded = kTile;
  while (padded < n) padded *= 2;
  Buffer<Key> keys(padded, stream);
  launch_elements(draw_keys, padded, stream, static_cast<int>(n), padded, random, keys.get());
  const dim3 tiles(static_cast<unsigned>(padded / kTile)), half(kTile / 2);
  launch(merge_tile, tiles, half, stream, 2, kTile, keys.get());
  for (int run = 2 * kTile; run <= padded; run *= 2) {
    for (int apart = run / 2; apart >= kTile; apart /= 2)
      launch(merge_step, tiles, half, stream, run, apart, keys.get());
    launch(merge_tile, tiles, half, stream, run, run, keys.get());
  }
  launch_elements(write_order, n, stream, static_cast<int>(n), static_cast<const Key*>(keys.get()), order);
}

void pair_digits(int64_t digits, int64_t repeats, Stream random, int32_t* pairs, cudaStream_t stream) {
  Buffer<int64_t> right(digits, stream);
  for (int64_t repeat = 0; repeat < repeats; ++repeat) {
    const uint64_t step = random.step + static_cast<uint64_t>(repeat);
    permutation(digits, {random.seed, step}, right.get(), stream);
    launch_elements(write_pairs, digits, stream, static_cast<int>(digits),
                    static_cast<const int64_t*>(right.get()), pairs + 2 * repeat * digits);
  }
}

}  // namespace mnist100::cuda
