// How a block fetches the tile of an operand of a product: four elements at a time, which follow one another
// either along k or along the rows or columns of C, here both called its index.
//
//   struct Operand {
//     static constexpr bool kQuadOfK;  // four elements follow k; else the index
//     static constexpr bool kFastK;    // neighbouring threads follow k; else the index
//     __device__ auto index(int i) const;  // what is kept of the index, or of the first of four
//     __device__ auto depth(int k) const;  // and of k
//     // Reads what elements (i, k + e) or (i + e, k) for e < count are made of, and makes them later: what
//     // is computed between two reads makes one wait for the other. A raw value begins as zeros.
//     struct Raw;
//     __device__ void load(index, depth, int count, Raw&) const;
//     // Optional: whether `load` may get a Whole for `count` where a quad ends before index `end` and the
//     // end of k.
//     __device__ bool is_whole(int end) const;
//     __device__ void finish(const Raw&, float (&x)[4]) const;
//   };
#pragma once

#include <utility>

#include "quads.cuh"

namespace mnist100::cuda {

// Elements that are used as they are read.
struct Plain {
  float x[4];
  __device__ void take(float (&to)[4]) const {
    MNIST100_UNROLL
    for (int e = 0; e < 4; ++e) to[e] = x[e];
  }
};

// An operand of single elements: a functor (index, k) -> element, with its own kFastK.
template <class Element>
struct Singly {
  static constexpr bool kFastK = Element::kFastK, kQuadOfK = Element::kFastK;
  Element element;
  __device__ int index(int i) const { return i; }
  __device__ int depth(int k) const { return k; }
  using Raw = Plain;
  __device__ void load(int i, int k, int count, Plain& to) const {
    MNIST100_UNROLL
    for (int e = 0; e < 4; ++e)
      if (e < count) to.x[e] = kQuadOfK ? element(i, k + e) : element(i + e, k);
  }
  __device__ void finish(const Plain& raw, float (&x)[4]) const { raw.take(x); }
};

// A thread's share of the tiles of an operand, kIndices x kDepth elements each. kOfWord elements of k make a
// word of shared memory.
template <class Operand, int kIndices, int kDepth, int kOfWord>
class Fetcher {
  static constexpr bool kQuadOfK = Operand::kQuadOfK, kFastK = Operand::kFastK;
  static_assert(kQuadOfK || !kFastK);
  static constexpr int kRun = kQuadOfK ? 1 : kOfWord;  // values of k that a thread fetches together
  static constexpr int kAlongK = kQuadOfK ? kDepth / 4 : kDepth / kRun;
  static constexpr int kAlongIndex = kQuadOfK ? kIndices : kIndices / 4;
  static constexpr int kUnits = kAlongK * kAlongIndex;
  static constexpr int kLoads = (kUnits + kBlock - 1) / kBlock;
  static_assert(kBlock % (kFastK ? kAlongK : kAlongIndex) == 0);
  using Index = decltype(std::declval<const Operand&>().index(0));

  Index kept_[kFastK ? kLoads : 1];  // where threads follow the index, all loads of a thread have the same
  typename Operand::Raw raw_[kLoads][kRun];

  __device__ static int unit(int load) { return static_cast<int>(threadIdx.x) + load * kBlock; }
  __device__ static int index_of(int load) {
    return (kQuadOfK ? 1 : 4) * (kFastK ? unit(load) / kAlongK : unit(0) % kAlongIndex);
  }
  __device__ static int k_of(int load) {
    return (kQuadOfK ? 4 : kRun) * (kFastK ? unit(0) % kAlongK : unit(load) / kAlongIndex);
  }
  __device__ static bool is_mine(int load) { return kUnits % kBlock == 0 || unit(load) < kUnits; }

 public:
  // For tiles whose first index is `first`.
  __device__ void begin(const Operand& operand, int first) {
    MNIST100_UNROLL
    for (int load = 0; load < (kFastK ? kLoads : 1); ++load)
      kept_[load] = operand.index(first + index_of(load));
  }

  // The tile from k on; zero beyond `size` and `to`.
  __device__ void fetch(const Operand& operand, int first, int size, int from, int to) {
    if constexpr (requires { operand.is_whole(0); })
      if (first + kIndices <= size && from + kDepth <= to && operand.is_whole(first + kIndices)) {
        each_quad([&](int load, int r) {
          raw_[load][r] = {};
          if (is_mine(load))
            operand.load(kept_[kFastK ? load : 0], operand.depth(from + k_of(load) + r), Whole{},
                         raw_[load][r]);
        });
        return;
      }
    each_quad([&](int load, int r) {
      const int count = size - first - index_of(load), k = from + k_of(load) + r;
      raw_[load][r] = {};
      if (is_mine(load) && count > 0 && k < to)
        operand.load(kept_[kFastK ? load : 0], operand.depth(k), kQuadOfK ? to - k : count, raw_[load][r]);
    });
  }

  // put(index, k, element) for every element.
  template <class Put>
  __device__ void each(const Operand& operand, Put put) const {
    MNIST100_UNROLL
    for (int load = 0; load < kLoads; ++load) {
      if (!is_mine(load)) continue;
      float x[kRun][4];
      finish(operand, load, x);
      MNIST100_UNROLL
      for (int r = 0; r < kRun; ++r) MNIST100_UNROLL
      for (int e = 0; e < 4; ++e)
        put(index_of(load) + (kQuadOfK ? 0 : e), k_of(load) + (kQuadOfK ? e : r), x[r][e]);
    }
  }

  // put(index, number of the first word, words) where the words follow one another along k.
  template <class Format, class Put>
  __device__ void each_words(const Operand& operand, Put put) const {
    constexpr int kWords = kQuadOfK ? 4 / kOfWord : 1;
    MNIST100_UNROLL
    for (int load = 0; load < kLoads; ++load) {
      if (!is_mine(load)) continue;
      float x[kRun][4];
      finish(operand, load, x);
      MNIST100_UNROLL
      for (int run = 0; run < (kQuadOfK ? 1 : 4); ++run) {
        uint32_t words[kWords];
        MNIST100_UNROLL
        for (int word = 0; word < kWords; ++word) {
          float of_word[kOfWord];
          MNIST100_UNROLL
          for (int e = 0; e < kOfWord; ++e) of_word[e] = kQuadOfK ? x[0][word * kOfWord + e] : x[e][run];
          words[word] = Format::word(of_word);
        }
        put(index_of(load) + run, k_of(load) / kOfWord, words);
      }
    }
  }

 private:
  template <class Each>
  __device__ static void each_quad(const Each& each) {
    MNIST100_UNROLL
    for (int load = 0; load < kLoads; ++load) MNIST100_UNROLL
    for (int r = 0; r < kRun; ++r) each(load, r);
  }
  __device__ void finish(const Operand& operand, int load, float (&x)[kRun][4]) const {
    for (int r = 0; r < kRun; ++r) operand.finish(raw_[load][r], x[r]);
  }
};

}  // namespace mnist100::cuda
