"""Batch normalisation, with ReLU and pooling fused behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import _checks as check
from .. import _core
from .._checks import Array

EPS = 1e-5  # added to a variance before its root, as in torch.nn.BatchNorm2d

_PLAIN = (0, 0)  # no border around the arrays that the kernels get from here


@dataclass(frozen=True, slots=True)
class NormCache:
    """What `batch_norm_relu_backward` needs: arrays in the kernels' own layout."""

    x: Array  # NHWC
    y_shape: tuple[int, int, int, int]  # NCHW
    argmax: Array | None  # uint8 (n, h//2, w//2, c), with the pool
    mean: Array
    inv_std: Array
    gamma: Array
    beta: Array


def batch_norm_stats(x: Array) -> tuple[Array, Array]:
    """Mean (c,) and biased variance (c,) of every channel of x (n, c, h, w), n at least 1."""
    x = check.images("x", x)
    if len(x) == 0:
        raise check.fail("x", check.describe(x), "at least one sample")
    return _core.batch_norm_stats(_core.pad_nhwc(x, _PLAIN), _PLAIN)


def batch_norm_relu(
    x: Array,
    mean: Array,
    var: Array,
    gamma: Array,
    beta: Array,
    *,
    pool: bool = False,
    eps: float = EPS,
) -> tuple[Array, NormCache]:
    """relu((x - mean) / √(var + eps) · gamma + beta), with `pool` the 2x2 max-pool of it, fused.

    Parameters
    ----------
    x : (n, c, h, w); with `pool`, h and w at least 2
    mean, var : (c,), those of `batch_norm_stats` in training, running ones in evaluation; var + eps above 0
    gamma, beta : (c,)

    Returns
    -------
    y : (n, c, h, w), with `pool` (n, c, h//2, w//2)
    cache : for `batch_norm_relu_backward`
    """
    x = check.images("x", x)
    if pool:
        check.pooled("x", x.shape)
    channels = x.shape[1:2]
    mean = check.shaped("mean", mean, channels, x.dtype)
    var = check.shaped("var", var, channels, x.dtype)
    gamma = check.shaped("gamma", gamma, channels, x.dtype)
    beta = check.shaped("beta", beta, channels, x.dtype)
    inv_std = inverse_deviation(var, check.real("eps", eps, 0))
    plain = _core.pad_nhwc(x, _PLAIN)
    y, argmax = _core.batch_norm_relu(plain, mean, inv_std, gamma, beta, _PLAIN, pool, _PLAIN)
    y = _core.unpad_nhwc(y, _PLAIN)
    return y, NormCache(plain, check.shape4(y), argmax, mean, inv_std, gamma, beta)


def batch_norm_relu_backward(dy: Array, cache: NormCache) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `batch_norm_relu` on the statistics of its own batch.

    dy has the shape of y. dx includes the way by mean and variance, which are functions of x.
    """
    check.cache("cache", cache, NormCache, "batch_norm_relu")
    if cache.argmax is not None:
        check.places("cache.argmax", cache.argmax)
    dy = check.shaped("dy", dy, cache.y_shape, cache.x.dtype)
    dx, dgamma, dbeta = _core.batch_norm_relu_backward(
        _core.pad_nhwc(dy, _PLAIN),
        cache.x,
        cache.argmax,
        cache.mean,
        cache.inv_std,
        cache.gamma,
        cache.beta,
        _PLAIN,
        _PLAIN,
    )
    return _core.unpad_nhwc(dx, _PLAIN), dgamma, dbeta


def inverse_deviation(var: Array, eps: float = EPS) -> Array:
    """1 / √(var + eps) of each channel, computed in double."""
    wide = var.astype(np.float64) + eps
    if not (wide > 0).all():
        raise check.fail("var", f"a value of {var.min():g}", "var + eps above 0")
    return (1 / np.sqrt(wide)).astype(var.dtype)
