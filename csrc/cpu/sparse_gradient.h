// Gradients of a 3x3 conv block from its pooled gradient: of every window's four results at most one has a
// gradient, at a place that the forward pass has noted. A dense backward pass would do at least four times
// the products. All functions take one sample.
#pragma once

#include "simd.h"

namespace mnist100 {
namespace {

// One sample of what the gradient at the pooled output is made of.
struct PooledGradient {
  const ConvBlockShape& s;
  const float *dy, *y;
  const uint8_t* argmax;
};

// kLanes channels of a window.
struct LiveVec {
  Vec gradient;        // 0 where dead
  IntVec live, place;  // the place within 0..3 whatever the byte: it becomes an address

  MNIST100_INLINE LiveVec(const float* dy, const float* y, const uint8_t* argmax)
      : live(load(y) > Vec{}), place(widen(argmax) & 3) {
    gradient = live ? load(dy) : Vec{};
  }
};

// --- whole vectors of input channels -------------------------------------------------------------------

// Channels of one window that are live, by place: bits of up to 64 channels.
struct LiveBits {
  uint64_t at[4];
};

// A worker's memory: a pooled row's gradients made ready, and for each output channel the live windows of
// the sample so far.
struct SparseScratch {
  int64_t groups;         // of 64 output channels
  float* gradients;       // (pw, oc), 0 where dead
  int32_t* offsets;       // (pw, oc), where the 3x3 taps of that place begin in x
  int32_t* slots;         // (pw, oc), where in the lists it goes
  LiveBits* bits;         // (pw, groups)
  int32_t* counts;        // (oc), lengths of the lists
  int64_t capacity;       // of a list
  int32_t* list_offsets;  // (oc, capacity)
  float* list_gradients;  // (oc, capacity)

  MNIST100_INLINE static int64_t group_count(const ConvBlockShape& s) { return ceil_div(s.oc, 64); }
  MNIST100_INLINE static int64_t floats(const ConvBlockShape& s) {
    return round_up(3 * s.pw() * s.oc + 8 * s.pw() * group_count(s) + s.oc + 2 * s.oc * (s.ph() * s.pw() + 1),
                    16);
  }
  MNIST100_INLINE static SparseScratch in(const ConvBlockShape& s, float* block) {
    const int64_t row = s.pw() * s.oc, capacity = s.ph() * s.pw() + 1;  // a dead window writes past the end
    int32_t* words = reinterpret_cast<int32_t*>(block);
    int32_t* bits = words + 3 * row;
    int32_t* counts = bits + 8 * s.pw() * group_count(s);
    return {group_count(s),
            block,
            words + row,
            words + 2 * row,
            reinterpret_cast<LiveBits*>(bits),
            counts,
            capacity,
            counts + s.oc,
            block + (counts - words) + s.oc + s.oc * capacity};
  }
};

// Pooled row py: one pass over y, dy and argmax for all that the gradients want to know.
void decode_row(const PooledGradient& g, int64_t py, const SparseScratch& own, float* db) {
  const ConvBlockShape& s = g.s;
  const int32_t down = static_cast<int32_t>(s.x().row()), right = static_cast<int32_t>(s.c);
  const int64_t at_y = s.y().at(0, py, 0), row = py * s.pw() * s.oc;
  const int32_t capacity = static_cast<int32_t>(own.capacity);
  for (int64_t px = 0; px < s.pw(); ++px) {
    const int32_t corner = static_cast<int32_t>(2 * py) * down + static_cast<int32_t>(2 * px) * right;
    LiveBits* bits = own.bits + px * own.groups;
    for (int64_t o = 0; o < s.oc; o += kLanes) {
      const int64_t at = px * s.oc + o;
      const LiveVec w(g.dy + at_y + at, g.y + at_y + at, g.argmax + row + at);
      store(own.gradients + at, w.gradient);
      store_ints(own.offsets + at, corner + (w.place >> 1) * down + (w.place & 1) * right);
      const IntVec count = load_ints(own.counts + o);
      store_ints(own.slots + at, ints_from(static_cast<int32_t>(o) * capacity, capacity) + count);
      store_ints(own.counts + o, count - w.live);  // a comparison that holds is -1
      store(db + o, load(db + o) + w.gradient);
      if (o % 64 == 0) bits[o / 64] = {};
      for (int i = 0; i < 4; ++i)
        bits[o / 64].at[i] |= uint64_t{bits_of(w.live & (w.place == i))} << (o % 64);
    }
  }
}

// Appends the row's live windows to the lists. A dead one writes too, where the next one overwrites it:
// cheaper than a branch that is hard to predict.
void collect_row(const ConvBlockShape& s, const SparseScratch& own) {
  for (int64_t i = 0; i < s.pw() * s.oc; ++i) {
    own.list_offsets[own.slots[i]] = own.offsets[i];
    own.list_gradients[own.slots[i]] = own.gradients[i];
  }
}

// dw (oc,3,3,c) += x at the taps of every live window times its gradient.
template <int C>
void add_weight_gradient(const ConvBlockShape& s, const SparseScratch& own, const float* x, float* dw) {
  const int64_t channels = C ? C : s.c, down = s.x().row();
  for (int64_t o = 0; o < s.oc; ++o) {
    const int32_t* offsets = own.list_offsets + o * own.capacity;
    const float* gradients = own.list_gradients + o * own.capacity;
    const int64_t count = own.counts[o];
    for (int64_t c = 0; c < channels; c += kLanes) {
      const float *top = x + c, *middle = top + down, *bottom = middle + down;
      Vec sum[9] = {};
      for (int64_t i = 0; i < count; ++i) {
        const Vec gradient = splat(gradients[i]);
        const int64_t offset = offsets[i];
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j) {
          sum[j] += gradient * load(top + offset + j * channels);
          sum[3 + j] += gradient * load(middle + offset + j * channels);
          sum[6 + j] += gradient * load(bottom + offset + j * channels);
        }
      }
      for (int t = 0; t < 9; ++t) {
        float* at = dw + (o * 9 + t) * channels + c;
        store(at, load(at) + sum[t]);
      }
    }
  }
}

// Calls f(bit) for every bit that is set, from the lowest.
template <class F>
MNIST100_INLINE void for_each_bit(uint64_t bits, F f) {
  for (; bits; bits &= bits - 1) f(__builtin_ctzll(bits));
}

// sum[3x3] += the gradient of each channel in `bits` times its taps; taps (oc,3,3,c) and dy from the
// first of these channels on, c apart from vector to vector.
MNIST100_INLINE void add_taps(uint64_t bits, const float* dy, const float* taps, int64_t c, Vec* s0, Vec* s1,
                              Vec* s2) {
  for_each_bit(bits, [&](int64_t o) MNIST100_LAMBDA_INLINE {
    const Vec gradient = splat(dy[o]);
    const float* w = taps + o * 9 * c;
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
      s0[j] += gradient * load(w + j * c);
      s1[j] += gradient * load(w + (3 + j) * c);
      s2[j] += gradient * load(w + (6 + j) * c);
    }
  });
}

// The same for all four places of a window at once: 16 sums need the 32 registers of AVX-512.
MNIST100_INLINE void add_window(const LiveBits& bits, const float* dy, const float* taps, int64_t c,
                                float* dx, int64_t down) {
  Vec sum[4][4];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) sum[i / 4][i % 4] = load(dx + i / 4 * down + i % 4 * c);
  add_taps(bits.at[0], dy, taps, c, sum[0], sum[1], sum[2]);
  add_taps(bits.at[1], dy, taps, c, sum[0] + 1, sum[1] + 1, sum[2] + 1);
  add_taps(bits.at[2], dy, taps, c, sum[1], sum[2], sum[3]);
  add_taps(bits.at[3], dy, taps, c, sum[1] + 1, sum[2] + 1, sum[3] + 1);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) store(dx + i / 4 * down + i % 4 * c, sum[i / 4][i % 4]);
}

// One place of a window: 9 sums, for 16 registers.
MNIST100_INLINE void add_place(uint64_t bits, const float* dy, const float* taps, int64_t c, float* dx,
                               int64_t down) {
  if (!bits) return;
  Vec sum[3][3];
#pragma GCC unroll 9
  for (int i = 0; i < 9; ++i) sum[i / 3][i % 3] = load(dx + i / 3 * down + i % 3 * c);
  add_taps(bits, dy, taps, c, sum[0], sum[1], sum[2]);
#pragma GCC unroll 9
  for (int i = 0; i < 9; ++i) store(dx + i / 3 * down + i % 3 * c, sum[i / 3][i % 3]);
}

// dx of one sample += what pooled row py gives; taps (oc,3,3,c).
template <int C>
void add_input_gradient(const ConvBlockShape& s, int64_t py, const SparseScratch& own, const float* taps,
                        float* dx) {
  const int64_t channels = C ? C : s.c, down = s.x().row();
  for (int64_t px = 0; px < s.pw(); ++px)
    for (int64_t group = 0; group < own.groups; ++group) {
      const LiveBits& bits = own.bits[px * own.groups + group];
      const float* dy = own.gradients + px * s.oc + 64 * group;
      for (int64_t c = 0; c < channels; c += kLanes) {
        const float* w = taps + 64 * group * 9 * channels + c;
        float* corner = dx + 2 * py * down + 2 * px * channels + c;
        if constexpr (kVectorBytes == 64) {
          add_window(bits, dy, w, channels, corner, down);
        } else {
          for (int i = 0; i < 4; ++i)
            add_place(bits.at[i], dy, w, channels, corner + (i >> 1) * down + (i & 1) * channels, down);
        }
      }
    }
}

// dx: a padded sample, or null; dw (oc,3,3,c) and db (oc) are added to. C is the number of input channels
// where it is known, so that the taps' distances are constants, else 0.
template <int C>
void backward_sample(const PooledGradient& g, const SparseScratch& own, const float* x, const float* taps,
                     float* dx, float* dw, float* db) {
  const ConvBlockShape& s = g.s;
  if (dx) __builtin_memset(dx, 0, sizeof(float) * static_cast<size_t>(s.x().sample()));
  __builtin_memset(own.counts, 0, sizeof(int32_t) * static_cast<size_t>(s.oc));
  for (int64_t py = 0; py < s.ph(); ++py) {
    decode_row(g, py, own, db);
    collect_row(s, own);
    if (dx) add_input_gradient<C>(s, py, own, taps, dx);
  }
  add_weight_gradient<C>(s, own, x, dw);
}

// --- one input channel ---------------------------------------------------------------------------------

typedef float Quad __attribute__((vector_size(16)));
typedef float UnalignedQuad __attribute__((vector_size(16), aligned(4), may_alias));

MNIST100_INLINE Quad load_quad(const float* p) { return *reinterpret_cast<const UnalignedQuad*>(p); }

// dw (3,3,oc) += the patch value that each output channel's place picks, times its gradient.
void add_weight_gradient_1(const PooledGradient& g, const float* x, float* dw, float* db) {
  const ConvBlockShape& s = g.s;
  const int64_t down = s.x().row();
  for (int64_t o = 0; o < s.oc; o += kLanes) {
    Vec sum[9] = {}, bias = load(db + o);
    for (int64_t py = 0; py < s.ph(); ++py) {
      const int64_t at_y = s.y().at(0, py, 0) + o, row = py * s.pw() * s.oc + o;
      for (int64_t px = 0; px < s.pw(); ++px) {
        const LiveVec w(g.dy + at_y + px * s.oc, g.y + at_y + px * s.oc, g.argmax + row + px * s.oc);
        const float* patch = x + 2 * py * down + 2 * px;
        Vec pairs[3];  // rows i and i + 1 of the window's 4x4 patch
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) pairs[i] = load_pair(patch + i * down, patch + (i + 1) * down);
        // Place 0..3 is lane 0, 1, 4, 5 of a pair.
        const IntVec lane = w.place + (w.place & 2);
        bias += w.gradient;
#pragma GCC unroll 9
        for (int t = 0; t < 9; ++t) sum[t] += w.gradient * permute(pairs[t / 3], lane + t % 3);
      }
    }
    store(db + o, bias);
    for (int t = 0; t < 9; ++t) store(dw + t * s.oc + o, load(dw + t * s.oc + o) + sum[t]);
  }
}

// The taps of each output channel where its four places put them in the 4x4 patch: placed (4,oc,4,4).
void place_taps(int64_t oc, const float* w, float* placed) {
  __builtin_memset(placed, 0, sizeof(float) * static_cast<size_t>(64 * oc));
  for (int64_t place = 0; place < 4; ++place)
    for (int64_t o = 0; o < oc; ++o)
      for (int64_t t = 0; t < 9; ++t)
        placed[((place * oc + o) * 4 + (place >> 1) + t / 3) * 4 + (place & 1) + t % 3] = w[o * 9 + t];
}

void input_gradient_1(const PooledGradient& g, const float* placed, float* dx) {
  const ConvBlockShape& s = g.s;
  const int64_t down = s.x().row();
  __builtin_memset(dx, 0, sizeof(float) * static_cast<size_t>(s.x().sample()));
  for (int64_t py = 0; py < s.ph(); ++py)
    for (int64_t px = 0; px < s.pw(); ++px) {
      Quad sum[4] = {};
      const int64_t at_y = s.y().at(0, py, px);
      const uint8_t* places = g.argmax + (py * s.pw() + px) * s.oc;
      for (int64_t o = 0; o < s.oc; ++o) {
        const float gradient = g.y[at_y + o] > 0 ? g.dy[at_y + o] : 0.0f;
        const float* taps = placed + ((places[o] & 3) * s.oc + o) * 16;
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) sum[i] += gradient * load_quad(taps + 4 * i);
      }
      float* patch = dx + 2 * py * down + 2 * px;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        *reinterpret_cast<UnalignedQuad*>(patch + i * down) = load_quad(patch + i * down) + sum[i];
    }
}

}  // namespace
}  // namespace mnist100
