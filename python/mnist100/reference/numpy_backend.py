"""The kernels from scratch in NumPy: what `mnist100.functional` computes, in a form to read.

The names, the signatures and the contracts are those of `mnist100.functional`, which documents them;
arguments are not checked. float32 stays float32, and float64 stays float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mnist100._checks import Array, IntOrPair
from mnist100.reference import philox
from mnist100.reference.numpy_halves import (
    join_halves,
    pair_logits,
    pair_logits_backward,
    split_halves,
)
from mnist100.reference.numpy_input import input_batch

__all__ = [
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
    "pair_logits",
    "pair_logits_backward",
    "relu",
    "relu_backward",
    "sgd_step",
    "softmax",
    "softmax_cross_entropy",
    "split_halves",
    "sum_squares",
]


def _pair(value: IntOrPair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def im2col(
    x: Array, kernel_size: IntOrPair, stride: IntOrPair = 1, padding: IntOrPair = 0
) -> Array:
    """Windows of x (n, c, h, w) as rows: (n·oh·ow, c·kh·kw)."""
    (kh, kw), (sh, sw), (ph, pw) = _pair(kernel_size), _pair(stride), _pair(padding)
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = sliding_window_view(padded, (kh, kw), axis=(2, 3))[:, :, ::sh, ::sw]
    n, c, oh, ow = windows.shape[:4]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * oh * ow, c * kh * kw)


def col2im(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    kernel_size: IntOrPair,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
) -> Array:
    """The transpose of `im2col`: overlaps are added."""
    (kh, kw), (sh, sw), (ph, pw) = _pair(kernel_size), _pair(stride), _pair(padding)
    n, c, h, w = x_shape
    oh, ow = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    windows = cols.reshape(n, oh, ow, c, kh, kw).transpose(0, 3, 4, 5, 1, 2)
    padded = np.zeros((n, c, h + 2 * ph, w + 2 * pw), cols.dtype)
    for i in range(kh):
        for j in range(kw):
            padded[:, :, i : i + sh * oh : sh, j : j + sw * ow : sw] += windows[:, :, i, j]
    return padded[:, :, ph : ph + h, pw : pw + w]


def gemm(
    a: Array,
    b: Array,
    *,
    trans_a: bool = False,
    trans_b: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
    out: Array | None = None,
) -> Array:
    """alpha · op(a) op(b) + beta · out."""
    product: Array = alpha * ((a.T if trans_a else a) @ (b.T if trans_b else b))
    if out is None:
        return product
    out[...] = product + beta * out if beta else product
    return out


def conv2d(
    x: Array, w: Array, b: Array | None = None, stride: IntOrPair = 1, padding: IntOrPair = 0
) -> Array:
    """One product: the windows of x by the filters as columns."""
    oc, _, kh, kw = w.shape
    (sh, sw), (ph, pw) = _pair(stride), _pair(padding)
    n, _, height, width = x.shape
    oh, ow = (height + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1
    y = im2col(x, (kh, kw), stride, padding) @ w.reshape(oc, -1).T
    if b is not None:
        y += b
    return y.reshape(n, oh, ow, oc).transpose(0, 3, 1, 2)


def conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    *,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Gradients (dx, dw, db): the same product differentiated."""
    oc, _, kh, kw = w.shape
    n, c, height, width = x.shape
    rows = dy.transpose(0, 2, 3, 1).reshape(-1, oc)  # (n·oh·ow, oc)
    dw = (rows.T @ im2col(x, (kh, kw), stride, padding)).reshape(w.shape)
    db = rows.sum(axis=0)
    if not need_dx:
        return None, dw, db
    dcols = rows @ w.reshape(oc, -1)
    return col2im(dcols, (n, c, height, width), (kh, kw), stride, padding), dw, db


def max_pool2d(
    x: Array, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0
) -> tuple[Array, Array]:
    """Largest value of each window and its flat index in the plane, place by place in the window."""
    (kh, kw), (ph, pw) = _pair(kernel_size), _pair(padding)
    sh, sw = (kh, kw) if stride is None else _pair(stride)
    n, c, h, w = x.shape
    oh, ow = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=-np.inf)
    top, left = np.arange(oh)[:, None] * sh - ph, np.arange(ow)[None, :] * sw - pw
    y = np.full((n, c, oh, ow), -np.inf, x.dtype)
    argmax = np.empty(y.shape, np.int32)
    argmax[...] = np.maximum(top, 0) * w + np.maximum(left, 0)
    for i in range(kh):
        for j in range(kw):
            candidate = padded[:, :, i : i + sh * oh : sh, j : j + sw * ow : sw]
            better = (candidate > y) | np.isnan(candidate)
            np.copyto(y, candidate, where=better)
            np.copyto(argmax, ((top + i) * w + left + j).astype(np.int32), where=better)
    return y, argmax


def max_pool2d_backward(
    dy: Array,
    argmax: Array,
    x_shape: tuple[int, int, int, int],
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
) -> Array:
    """Gradient: dy added at argmax into zeros."""
    n, c, h, w = x_shape
    dx = np.zeros(n * c * h * w, dy.dtype)
    planes = np.arange(n * c).reshape(n, c, 1, 1) * (h * w)  # where each begins
    np.add.at(dx, (planes + argmax).reshape(-1), dy.reshape(-1))
    return dx.reshape(x_shape)


def conv_block(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """max_pool2d(relu(conv2d(x, w, b, padding=k//2)), 2), one after the other."""
    rectified = relu(conv2d(x, w, b, padding=(w.shape[2] // 2, w.shape[3] // 2)))
    y, argmax = max_pool2d(rectified, 2)
    return y, (x, w, rectified, argmax)


def conv_block_backward(
    dy: Array, cache: Any, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients (dx, dw, db) of `conv_block`."""
    x, w, rectified, argmax = cache
    dy = relu_backward(max_pool2d_backward(dy, argmax, rectified.shape, 2), rectified)
    padding = (w.shape[2] // 2, w.shape[3] // 2)
    return conv2d_backward(dy, x, w, padding=padding, need_dx=need_dx)


def batch_norm_stats(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance over all axes but the channels."""
    return x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))


def batch_norm_relu(
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array,
    beta: Array,
    *,
    pool: bool = False,
    eps: float = 1e-5,
) -> tuple[Array, Any]:
    """Normalise, scale and shift, rectify and pool, one after the other."""
    inv_std = 1 / np.sqrt(var + x.dtype.type(eps))
    normal = (x - _channels(mean)) * _channels(inv_std)
    y = rectified = relu(normal * _channels(gamma) + _channels(beta))
    argmax = None
    if pool:
        y, argmax = max_pool2d(rectified, 2)
    return y, (normal, rectified, argmax, gamma * inv_std)


def batch_norm_relu_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta), the statistics being those of x."""
    normal, rectified, argmax, scale = cache
    if argmax is not None:
        dy = max_pool2d_backward(dy, argmax, rectified.shape, 2)
    g = relu_backward(dy, rectified)
    dgamma, dbeta = (g * normal).sum(axis=(0, 2, 3)), g.sum(axis=(0, 2, 3))
    by_statistics = (_channels(dbeta) + normal * _channels(dgamma)) / (g.size // len(scale))
    return _channels(scale) * (g - by_statistics), dgamma, dbeta


def _channels(values: Array) -> Array:
    return values[:, None, None]


def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """x wᵀ + b."""
    y: Array = x @ w.T
    return y if b is None else y + b


def linear_backward(
    dy: Array, x: Array, w: Array, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients (dx, dw, db) of `linear`."""
    return dy @ w if need_dx else None, dy.T @ x, dy.sum(axis=0)


def linear_block(x: Array, w: Array, b: Array, p: float, *, seed: int, step: int) -> Array:
    """dropout(relu(x wᵀ + b), p)."""
    y = relu(linear(x, w, b))
    return dropout(y, p, seed=seed, step=step)[0] if p else y


def linear_block_backward(
    dy: Array, y: Array, x: Array, w: Array, p: float, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients (dx, dw, db) of `linear_block`: what is above 0 in y was neither cut off nor dropped."""
    passed = relu_backward(dy * dy.dtype.type(1 / (1 - p)), y)
    return linear_backward(passed, x, w, need_dx=need_dx)


def relu(x: Array) -> Array:
    """max(x, 0)."""
    y: Array = np.maximum(x, 0)
    return y


def relu_backward(dy: Array, y: Array) -> Array:
    """dy where y > 0, else 0."""
    dx: Array = np.where(y > 0, dy, dy.dtype.type(0))
    return dx


def dropout(x: Array, p: float, *, seed: int, step: int) -> tuple[Array, Array]:
    """Inverted dropout with the masks of our kernels: a block of Philox gives four elements their bits."""
    blocks = np.arange(-(-x.size // 4))
    bits = philox.words(blocks, philox.DROPOUT, seed=seed, step=step).T.reshape(-1)[: x.size]
    mask = (bits.astype(np.float64) >= p * 2.0**32).astype(np.uint8).reshape(x.shape)
    return dropout_backward(x, mask, p), mask


def dropout_backward(dy: Array, mask: Array, p: float) -> Array:
    """Gradient of `dropout`: the map is linear, so it is its own."""
    dx: Array = np.where(mask, dy * dy.dtype.type(1 / (1 - p)), dy.dtype.type(0))
    return dx


def softmax(x: Array) -> Array:
    """exp(x) / Σ exp(x); the largest is taken off first, so that nothing overflows."""
    exponentials = np.exp(x - x.max(axis=1, keepdims=True))
    p: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return p


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """Mean of log Σ exp(logits) - logits[label], and its gradient (softmax - onehot) / n."""
    rows = np.arange(len(logits))
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, labels]
    dlogits = softmax(logits)
    dlogits[rows, labels] -= 1
    dlogits /= len(logits)
    return float(losses.mean(dtype=np.float64)), dlogits


def adam_step(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    l2: float = 0.0,
    weight_decay: float = 0.0,
) -> None:
    """One Adam update in place (Kingma & Ba 2015, algorithm 1), with decoupled decay."""
    grad = grad + l2 * param
    m[...] = beta1 * m + (1 - beta1) * grad
    v[...] = beta2 * v + (1 - beta2) * grad**2
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    param *= 1 - lr * weight_decay
    param -= lr * m_hat / (np.sqrt(v_hat) + eps)


def sgd_step(
    param: Array, grad: Array, velocity: Array, *, lr: float, momentum: float = 0.0, l2: float = 0.0
) -> None:
    """velocity = momentum · velocity + grad + l2 · param; param -= lr · velocity."""
    velocity[...] = momentum * velocity + grad + l2 * param
    param -= lr * velocity


def ema_update(average: Array, param: Array, decay: float) -> None:
    """average = decay · average + (1 - decay) · param, in place."""
    average[...] = decay * average + (1 - decay) * param


def sum_squares(x: Array) -> float:
    """Σ x², added in double precision."""
    return float(np.square(x, dtype=np.float64).sum())
