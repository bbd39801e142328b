#include "host_ops.cuh"

namespace mnist100 {

namespace {

template <cuda::Precision P>
constexpr Kernels<float> table_of(const char* name) {
  return {
      name,
      cuda::host::Products<P>::gemm,
      cuda::host::im2col,
      cuda::host::col2im,
      cuda::host::Products<P>::conv2d,
      cuda::host::Products<P>::conv2d_backward,
      cuda::host::max_pool2d,
      cuda::host::max_pool2d_backward,
      cuda::host::pad_nhwc,
      cuda::host::unpad_nhwc,
      cuda::host::Products<P>::conv_block,
      cuda::host::Products<P>::conv_block_backward,
      cuda::host::Products<P>::conv_same,
      cuda::host::Products<P>::conv_same_backward,
      cuda::host::batch_norm_stats,
      cuda::host::batch_norm_relu,
      cuda::host::batch_norm_relu_backward,
      cuda::host::split_halves,
      cuda::host::join_halves,
      cuda::host::pair_logits,
      cuda::host::pair_logits_backward,
      cuda::host::Products<P>::linear,
      cuda::host::Products<P>::linear_backward,
      cuda::host::Products<P>::linear_block,
      cuda::host::Products<P>::linear_block_backward,
      cuda::host::relu,
      cuda::host::relu_backward,
      cuda::host::dropout,
      cuda::host::dropout_backward,
      cuda::host::softmax,
      cuda::host::softmax_cross_entropy,
      cuda::host::adam_step,
      cuda::host::sgd_step,
      cuda::host::ema_update,
      cuda::host::sum_squares,
      cuda::host::input_batch,
      cuda::host::fma_rounds,
  };
}

}  // namespace

constinit const Kernels<float> cuda::table = table_of<cuda::Precision::kFp32>("cuda");
constinit const Kernels<float> cuda::table_tf32 = table_of<cuda::Precision::kTf32>("cuda_tf32");
constinit const Kernels<float> cuda::table_bf16 = table_of<cuda::Precision::kBf16>("cuda_bf16");

}  // namespace mnist100
