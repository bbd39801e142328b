"""Stateless operations on NumPy arrays, forward and backward.

Images are NCHW. Arrays are float32, C-contiguous: such arrays reach the kernels without a copy. A
non-contiguous input is copied once; one that is written to (`out=`, the in-place updates) must be
contiguous. float64 arrays go to the float64 reference kernels and are never cast down; nothing else is
accepted, and float32 and float64 do not mix. Errors name the argument, what it got and what it wants.
"""

from __future__ import annotations

from .convolution import (
    BlockCache,
    col2im,
    conv2d,
    conv2d_backward,
    conv_block,
    conv_block_backward,
    im2col,
)
from .elementwise import dropout, dropout_backward, relu, relu_backward
from .halves import join_halves, pair_logits, pair_logits_backward, split_halves
from .loss import softmax, softmax_cross_entropy
from .matrix import gemm, linear, linear_backward, linear_block, linear_block_backward
from .normalisation import (
    NormCache,
    batch_norm_relu,
    batch_norm_relu_backward,
    batch_norm_stats,
)
from .pooling import max_pool2d, max_pool2d_backward
from .sampling import input_batch, normal, permutation, uniform
from .update import adam_step, ema_update, sgd_step, sum_squares

__all__ = [
    "BlockCache",
    "NormCache",
    "adam_step",
    "batch_norm_relu",
    "batch_norm_relu_backward",
    "batch_norm_stats",
    "col2im",
    "conv2d",
    "conv2d_backward",
    "conv_block",
    "conv_block_backward",
    "dropout",
    "dropout_backward",
    "ema_update",
    "gemm",
    "im2col",
    "input_batch",
    "join_halves",
    "linear",
    "linear_backward",
    "linear_block",
    "linear_block_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "normal",
    "pair_logits",
    "pair_logits_backward",
    "permutation",
    "relu",
    "relu_backward",
    "sgd_step",
    "softmax",
    "softmax_cross_entropy",
    "split_halves",
    "sum_squares",
    "uniform",
]
