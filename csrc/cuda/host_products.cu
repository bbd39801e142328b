// Everything that multiplies, for arrays in the CPU's memory.
#include "host_ops.cuh"
#include "ops.cuh"
#include "staging.cuh"

namespace mnist100::cuda::host {
namespace {

int64_t weights(const Conv2dShape& s) { return s.oc * s.c * s.kh * s.kw; }
int64_t results(const Conv2dShape& s) { return s.n * s.oc * s.oh() * s.ow(); }

// Of a linear layer; dy and the mask lie in the GPU's memory.
void gradients(const LinearShape& s, const float* dy, const LinearMask& mask, const float* x, const float* w,
               float* dx, float* dw, float* db, const Queue& queue, Staging& call) {
  if (dx) linear_input_gradient(s, dy, mask, call.in(w, s.out * s.in), call.out(dx, s.n * s.in), queue);
  linear_weight_gradient(s, dy, mask, call.in(x, s.n * s.in), call.out(dw, s.out * s.in), call.out(db, s.out),
                         queue);
}

}  // namespace

template <Precision P>
void Products<P>::conv2d(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y,
                         int) {
  Staging call;
  cuda::conv2d(s, call.in(x, images(s)), call.in(w, weights(s)), call.in(b, s.oc), call.out(y, results(s)),
               Queue(call.stream, P));
  call.finish();
}

template <Precision P>
void Products<P>::conv2d_backward(const Conv2dShape& s, const float* dy, const float* x, const float* w,
                                  float* dx, float* dw, float* db, int) {
  Staging call;
  cuda::conv2d_backward(s, call.in(dy, results(s)), call.in(x, images(s)), call.in(w, weights(s)),
                        call.out(dx, images(s)), call.out(dw, weights(s)), call.out(db, s.oc),
                        Queue(call.stream, P));
  call.finish();
}

template <Precision P>
void Products<P>::conv_block(const ConvBlockShape& s, const float* x, const float* w, const float* b,
                             float* y, uint8_t* argmax, int) {
  Staging call;
  cuda::conv_block(s, call.in(x, padded(s.x())), call.in(w, s.oc * s.c * s.kh * s.kw), call.in(b, s.oc),
                   PooledPlaces::padded(s.y()), call.zeros(y, padded(s.y())),
                   call.out(argmax, interior(s.y())), false, Queue(call.stream, P));
  call.finish();
}

template <Precision P>
void Products<P>::conv_block_backward(const ConvBlockShape& s, const float* dy, const float* x,
                                      const float* y, const uint8_t* argmax, const float* w, float* dx,
                                      float* dw, float* db, int) {
  Staging call;
  const int64_t weight_count = s.oc * s.c * s.kh * s.kw;
  const Queue queue(call.stream, P);
  const float* const dy_there = call.in(dy, padded(s.y()));
  const ConvSameShape same = same_shape(s);
  const Buffer<uint8_t> marked(interior(s.y()), queue);
  mark_dead(s.y(), call.in(y, padded(s.y())), call.in(argmax, interior(s.y())), marked.get(), queue);
  const PooledPlaces places = PooledPlaces::padded(s.y());
  if (dx) {
    const float* const w_there = call.in(w, weight_count);
    float* const dx_there = call.out(dx, padded(s.x()));
    if (!pooled_input_gradient(s, dy_there, places, marked.get(), w_there, dx_there, queue)) {
      const Buffer<float> dense(padded(dense_of(same)), queue);
      zero(dense.get(), padded(dense_of(same)), queue);
      spread_pooled(s, dy_there, places, marked.get(), dense.get(), queue);
      dense_input_gradient(same, dense.get(), w_there, dx_there, queue);
    }
  }
  pooled_weight_gradient(s, dy_there, places, call.in(x, padded(s.x())), marked.get(),
                         call.out(dw, weight_count), call.out(db, s.oc), queue);
  call.finish();
}

template <Precision P>
void Products<P>::conv_same(const ConvSameShape& s, const float* x, const float* w, const float* b, bool relu,
                            float* y, int) {
  Staging call;
  cuda::conv_same(s, call.in(x, padded(s.x())), call.in(w, s.oc * s.c * s.kh * s.kw), call.in(b, s.oc), relu,
                  call.zeros(y, padded(s.y())), Queue(call.stream, P));
  call.finish();
}

template <Precision P>
void Products<P>::conv_same_backward(const ConvSameShape& s, const float* dy, const float* x, const float* y,
                                     const float* w, float* dx, float* dw, float* db, int) {
  Staging call;
  const int64_t weight_count = s.oc * s.c * s.kh * s.kw;
  const Queue queue(call.stream, P);
  const Buffer<float> dense(padded(dense_of(s)), queue);
  zero(dense.get(), padded(dense_of(s)), queue);
  spread_same(s, call.in(dy, padded(s.y())), call.in(y, padded(s.y())), dense.get(), queue);
  if (dx) dense_input_gradient(s, dense.get(), call.in(w, weight_count), call.out(dx, padded(s.x())), queue);
  dense_weight_gradient(s, dense.get(), call.in(x, padded(s.x())), call.out(dw, weight_count),
                        call.out(db, s.oc), queue);
  call.finish();
}

template <Precision P>
void Products<P>::gemm(const GemmShape& s, float alpha, const float* a, const float* b, float beta, float* c,
                       int) {
  Staging call;
  cuda::gemm(s, alpha, call.in(a, s.m * s.k), call.in(b, s.k * s.n), beta, call.in_out(c, s.m * s.n),
             Queue(call.stream, P));
  call.finish();
}

template <Precision P>
void Products<P>::linear(const LinearShape& s, const float* x, const float* w, const float* b, float* y,
                         int) {
  Staging call;
  cuda::linear(s, call.in(x, s.n * s.in), call.in(w, s.out * s.in), call.in(b, s.out),
               call.out(y, s.n * s.out), Queue(call.stream, P));
  call.finish();
}

template <Precision P>
void Products<P>::linear_backward(const LinearShape& s, const float* dy, const float* x, const float* w,
                                  float* dx, float* dw, float* db, int) {
  Staging call;
  gradients(s, call.in(dy, s.n * s.out), {}, x, w, dx, dw, db, Queue(call.stream, P), call);
  call.finish();
}

template <Precision P>
void Products<P>::linear_block(const LinearShape& s, double p, Stream random, const float* x, const float* w,
                               const float* b, float* y, int) {
  Staging call;
  cuda::linear_block(s, p, random, call.in(x, s.n * s.in), call.in(w, s.out * s.in), call.in(b, s.out),
                     call.out(y, s.n * s.out), Queue(call.stream, P));
  call.finish();
}

template <Precision P>
void Products<P>::linear_block_backward(const LinearShape& s, double p, const float* dy, const float* y,
                                        const float* x, const float* w, float* dx, float* dw, float* db,
                                        int) {
  Staging call;
  const LinearMask mask = LinearMask::of_block(p, call.in(y, s.n * s.out));
  gradients(s, call.in(dy, s.n * s.out), mask, x, w, dx, dw, db, Queue(call.stream, P), call);
  call.finish();
}

template struct Products<Precision::kFp32>;
template struct Products<Precision::kTf32>;
template struct Products<Precision::kBf16>;

}  // namespace mnist100::cuda::host
