#include "linear_ops.cuh"

namespace mnist100::cuda {
namespace {

struct GemmResult {
  float alpha, beta;
  float* c;
  int n;
  __device__ void operator()(int i, int rows, int j, int columns, const Sums& sums) const {
    for (int r = 0; r < rows; ++r) {
      float* out = c + static_cast<int64_t>(i + r) * n + j;
      for (int q = 0; q < columns; ++q)
        out[q] = beta == 0.0f ? alpha * sums[q][r] : alpha * sums[q][r] + beta * out[q];
    }
  }
};

template <bool TransA, bool TransB>
void gemm_of(const GemmShape& s, float alpha, const float* a, const float* b, float beta, float* c,
             const Queue& queue) {
  const int m = static_cast<int>(s.m), n = static_cast<int>(s.n), k = static_cast<int>(s.k);
  const Rows<!TransA> left(a, TransA ? m : k);
  const Rows<TransB> right(b, TransB ? k : n);
  multiply<Square>(m, n, k, left, right, GemmResult{alpha, beta, c, n}, queue);
}

}  // namespace

void gemm(const GemmShape& s, float alpha, const float* a, const float* b, float beta, float* c,
          const Queue& queue) {
  const auto run = s.trans_a ? (s.trans_b ? gemm_of<true, true> : gemm_of<true, false>)
                             : (s.trans_b ? gemm_of<false, true> : gemm_of<false, false>);
  run(s, alpha, a, b, beta, c, queue);
}

}  // namespace mnist100::cuda
