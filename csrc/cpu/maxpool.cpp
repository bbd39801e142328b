// Max-pooling of any window, stride and padding, and its scatter back. 2x2 windows with stride 2 and no
// padding, tiles below, go a vector of windows at a time.
#include "ops.h"
#include "shuffle.h"

namespace mnist100::MNIST100_ISA {
namespace {

constexpr int64_t kGrain = 65536;  // elements of x a chunk, 256 KiB

int64_t planes_a_chunk(const Pool2dShape& s) { return max_of(1, kGrain / (s.h * s.w)); }

// Elements of x and dx that are asked for ahead of their turn, 4 KiB: the rows' unaligned vectors keep too
// few lines on their way.
constexpr int64_t kAhead = 1024;

bool has_tiles(const Pool2dShape& s) {
  return s.kh == 2 && s.kw == 2 && s.sh == 2 && s.sw == 2 && s.ph == 0 && s.pw == 0;
}

// The largest so far and its place: the first of equal numbers wins, a NaN beats everything, as in PyTorch.
struct Best {
  Vec value;
  IntVec place;

  MNIST100_INLINE void meet(Vec candidate, IntVec at) {
    const IntVec beats = (candidate > value) | (candidate != candidate);
    value = beats ? candidate : value;
    place = beats ? at : place;
  }
};

// Two input rows hold a row of tiles: lane i of `even` and `odd` are columns 2i and 2i + 1.
struct Columns {
  Vec even, odd;
};

MNIST100_INLINE Columns load_columns(const float* row) {
  const Vec a = load(row), b = load(row + kLanes);
  return {shuffled<[](int i) { return 2 * i; }>(a, b), shuffled<[](int i) { return 2 * i + 1; }>(a, b)};
}

MNIST100_INLINE void store_columns(float* row, const Columns& c) {
  store(row, shuffled<[](int i) { return i / 2 + i % 2 * kLanes; }>(c.even, c.odd));
  store(row + kLanes, shuffled<[](int i) { return (i + kLanes) / 2 + i % 2 * kLanes; }>(c.even, c.odd));
}

// kLanes tiles side by side, the first with its corner at `place` of the plane, where `x` points.
MNIST100_INLINE void pool_tiles(const float* x, int64_t w, int32_t place, float* y, int32_t* argmax) {
  prefetch<0>(x + kAhead, 4 * kLanes);
  const Columns upper = load_columns(x), lower = load_columns(x + w);
  const IntVec at = ints_from(place, 2);
  const int32_t below = static_cast<int32_t>(w);
  Best best = {upper.even, at};
  best.meet(upper.odd, at + 1);
  best.meet(lower.even, at + below);
  best.meet(lower.odd, at + (below + 1));
  store(y, best.value);
  store_ints(argmax, best.place);
}

// One of the two input rows of kLanes tiles, its first column at `place`; returns the lanes with an argmax
// there.
MNIST100_INLINE IntVec unpool_tiles(const float* dy, const int32_t* argmax, int32_t place, float* dx) {
  prefetch<1>(dx + kAhead, 2 * kLanes);
  // Any integer may stand there: differences wrap around.
  const IntVec at = reinterpret_cast<IntVec>(reinterpret_cast<UintVec>(load_ints(argmax)) -
                                             reinterpret_cast<UintVec>(ints_from(place, 2)));
  const Vec g = load(dy) + 0.0f;  // as if added to zero: -0 becomes 0
  const IntVec left = at == 0, right = at == 1;
  store_columns(dx, {left ? g : Vec{}, right ? g : Vec{}});
  return left | right;
}

// Writes a row, zero but for the gradients whose place is in it; returns -1 for each of these.
MNIST100_INLINE IntVec unpool_row(const Pool2dShape& s, int64_t iy, const float* dy, const int32_t* argmax,
                                  float* dx) {
  const int64_t ow = s.ow();
  IntVec found = {};
  for (int64_t ox = 0; ox < ow; ox += kLanes) {
    const int32_t place = static_cast<int32_t>(iy * s.w + 2 * ox);
    const IntVec here = unpool_tiles(dy + ox, argmax + ox, place, dx + 2 * ox);
    found += here & (ints_from(static_cast<int32_t>(ox), 1) < static_cast<int32_t>(ow));
  }
  if (s.w % 2) dx[s.w - 1] = 0;
  return found;
}

// One output row of any window: each tap meets all columns for which it lies inside the image.
template <int64_t Stride>  // horizontal; 0: read it from s
void pool_row(const Pool2dShape& s, const float* x, int64_t oy, float* __restrict__ y,
              int32_t* __restrict__ argmax) {
  const int64_t step = Stride ? Stride : s.sw;
  const int64_t top = max_of(0, oy * s.sh - s.ph), bottom = min_of(s.h, oy * s.sh - s.ph + s.kh);
  for (int64_t ox = 0; ox < s.ow(); ++ox) {
    const int64_t at = top * s.w + max_of(0, ox * step - s.pw);
    y[ox] = x[at];
    argmax[ox] = static_cast<int32_t>(at);
  }
  for (int64_t iy = top; iy < bottom; ++iy)
    for (int64_t kx = 0; kx < s.kw; ++kx) {
      const int64_t shift = kx - s.pw;  // tap of column ox: ox * step + shift, in [0, w)
      const int64_t first = shift < 0 ? ceil_div(-shift, step) : 0;
      const int64_t last = s.w > shift ? min_of(s.ow(), ceil_div(s.w - shift, step)) : 0;
      const float* row = x + iy * s.w + shift;
      const int32_t place = static_cast<int32_t>(iy * s.w + shift);
      for (int64_t ox = first; ox < last; ++ox) {
        const float candidate = row[ox * step];
        const bool beats = (candidate > y[ox]) | (candidate != candidate);
        y[ox] = beats ? candidate : y[ox];
        argmax[ox] = beats ? place + static_cast<int32_t>(ox * step) : argmax[ox];
      }
    }
}

// Rows of tiles are done in whole vectors, which may reach beyond their end. What they spoil there comes
// next and is written in its turn; what would lie outside of the chunk's planes goes another way.
struct Chunk {
  int64_t steps, in, out;  // vectors a row; elements of all planes

  Chunk(const Pool2dShape& s, int64_t planes)
      : steps(ceil_div(s.ow(), kLanes)), in(planes * s.h * s.w), out(planes * s.oh() * s.ow()) {}

  // May the row of tiles with these first elements be done in whole vectors?
  bool has_room(const Pool2dShape& s, int64_t from, int64_t to) const {
    return from + s.w + 2 * steps * kLanes <= in && to + steps * kLanes <= out;
  }
};

void pool_planes(const Pool2dShape& s, int64_t planes, const float* x, float* y, int32_t* argmax) {
  const int64_t in = s.h * s.w, ow = s.ow(), out = s.oh() * ow;
  const bool tiles = has_tiles(s);
  const Chunk chunk(s, planes);
  const auto any_row = s.sw == 1 ? pool_row<1> : s.sw == 2 ? pool_row<2> : pool_row<0>;
  for (int64_t i = 0; i < planes; ++i)
    for (int64_t oy = 0; oy < s.oh(); ++oy) {
      const int64_t to = i * out + oy * ow, place = 2 * oy * s.w;
      if (!tiles || !chunk.has_room(s, i * in + place, to)) {
        any_row(s, x + i * in, oy, y + to, argmax + to);
        continue;
      }
      for (int64_t ox = 0; ox < ow; ox += kLanes)
        pool_tiles(x + i * in + place + 2 * ox, s.w, static_cast<int32_t>(place + 2 * ox), y + to + ox,
                   argmax + to + ox);
    }
}

// False: an argmax lies outside the plane, and dx is not right.
bool scatter_plane(const Pool2dShape& s, const float* dy, const int32_t* argmax, float* dx) {
  const uint32_t size = static_cast<uint32_t>(s.h * s.w);
  __builtin_memset(dx, 0, sizeof(float) * size);
  for (int64_t o = 0; o < s.oh() * s.ow(); ++o) {
    const uint32_t at = static_cast<uint32_t>(argmax[o]);
    if (at >= size) return false;
    dx[at] += dy[o];
  }
  return true;
}

// False: an argmax lies outside its tile, as one of the caller's own may, and dx is not right.
bool unpool_plane(const Pool2dShape& s, const float* dy, const int32_t* argmax, float* dx) {
  IntVec found = {};
  for (int64_t iy = 0; iy < 2 * s.oh(); ++iy) {
    const int64_t o = iy / 2 * s.ow();
    found += unpool_row(s, iy, dy + o, argmax + o, dx + iy * s.w);
  }
  if (s.h % 2) __builtin_memset(dx + (s.h - 1) * s.w, 0, sizeof(float) * static_cast<size_t>(s.w));
  int32_t missing = static_cast<int32_t>(s.oh() * s.ow());
  for (int i = 0; i < kLanes; ++i) missing += found[i];
  return missing == 0;
}

bool unpool_planes(const Pool2dShape& s, int64_t planes, const float* dy, const int32_t* argmax, float* dx) {
  const int64_t in = s.h * s.w, out = s.oh() * s.ow();
  const Chunk chunk(s, planes);
  for (int64_t i = 0; i < planes; ++i) {
    const float* g = dy + i * out;
    const int32_t* places = argmax + i * out;
    const bool fits =
        has_tiles(s) && chunk.has_room(s, i * in + (s.h / 2 - 1) * 2 * s.w, (i + 1) * out - s.ow());
    if (fits && unpool_plane(s, g, places, dx + i * in)) continue;
    if (!scatter_plane(s, g, places, dx + i * in)) return false;
  }
  return true;
}

}  // namespace

void max_pool2d(const Pool2dShape& s, const float* x, float* y, int32_t* argmax, int threads) {
  const int64_t in = s.h * s.w, out = s.oh() * s.ow();
  parallel_ranges(s.n * s.c, planes_a_chunk(s), threads, [&](int64_t begin, int64_t end) {
    pool_planes(s, end - begin, x + begin * in, y + begin * out, argmax + begin * out);
  });
}

bool max_pool2d_backward(const Pool2dShape& s, const float* dy, const int32_t* argmax, float* dx,
                         int threads) {
  const int64_t in = s.h * s.w, out = s.oh() * s.ow();
  int outside = 0;
  parallel_ranges(s.n * s.c, planes_a_chunk(s), threads, [&](int64_t begin, int64_t end) {
    if (!unpool_planes(s, end - begin, dy + begin * out, argmax + begin * out, dx + begin * in))
      __atomic_store_n(&outside, 1, __ATOMIC_RELAXED);
  });
  return !outside;
}

}  // namespace mnist100::MNIST100_ISA
