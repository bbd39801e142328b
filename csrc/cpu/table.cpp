#include "ops.h"

#define MNIST100_STRINGIFY(x) #x
#define MNIST100_NAME(isa) MNIST100_STRINGIFY(isa)

namespace mnist100 {

using namespace MNIST100_ISA;

constinit const Kernels<float> MNIST100_TABLE::table = {
    MNIST100_NAME(MNIST100_TABLE),
    gemm,
    im2col,
    col2im,
    conv2d,
    conv2d_backward,
    max_pool2d,
    max_pool2d_backward,
    pad_nhwc,
    unpad_nhwc,
    conv_block,
    conv_block_backward,
    conv_same,
    conv_same_backward,
    batch_norm_stats,
    batch_norm_relu,
    batch_norm_relu_backward,
    split_halves,
    join_halves,
    pair_logits,
    pair_logits_backward,
    linear,
    linear_backward,
    linear_block,
    linear_block_backward,
    relu,
    relu_backward,
    dropout,
    dropout_backward,
    softmax,
    softmax_cross_entropy,
    adam_step,
    sgd_step,
    ema_update,
    sum_squares,
    input_batch,
    fma_rounds,
};

}  // namespace mnist100
