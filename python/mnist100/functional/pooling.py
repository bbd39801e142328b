"""Max-pooling."""

from __future__ import annotations

import math

import numpy as np

from .. import _checks as check
from .. import _core
from .._checks import Array, IntOrPair


def max_pool2d(
    x: Array, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0
) -> tuple[Array, Array]:
    """Largest value of each window of x (n, c, h, w) and where it is.

    Parameters
    ----------
    stride : defaults to `kernel_size`
    padding : at most half the kernel; padding is never the largest

    Returns
    -------
    y : (n, c, oh, ow)
    argmax : int32, (n, c, oh, ow), flat index into the h·w plane of the input; the first of equals
    """
    x = check.images("x", x)
    window, _ = _pool_window(check.shape4(x), kernel_size, stride, padding)
    return _core.max_pool2d(x, *window)


def max_pool2d_backward(
    dy: Array,
    argmax: Array,
    x_shape: tuple[int, int, int, int],
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
) -> Array:
    """Gradient of `max_pool2d`: dy (n, c, oh, ow) added at argmax into zeros of shape x_shape."""
    x_shape = check.image_shape("x_shape", x_shape)
    window, out = _pool_window(x_shape, kernel_size, stride, padding)
    dy = check.array("dy", dy, None, 4)
    dy = check.shaped("dy", dy, (*x_shape[:2], *out), dy.dtype)
    argmax = check.integers("argmax", argmax, np.int32, 4)
    if argmax.shape != dy.shape:
        raise check.fail("argmax", check.describe(argmax), f"shape {dy.shape}, like dy")
    return _core.max_pool2d_backward(dy, argmax, x_shape, *window)


def _pool_window(
    x_shape: tuple[int, int, int, int],
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: IntOrPair,
) -> tuple[tuple[tuple[int, int], tuple[int, int], tuple[int, int]], tuple[int, int]]:
    stride = kernel_size if stride is None else stride
    kernel, stride, padding, out = check.window(x_shape, kernel_size, stride, padding)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise check.fail("padding", padding, f"at most half of the kernel {kernel}")
    if math.prod(x_shape[2:]) > np.iinfo(np.int32).max:
        raise check.fail(
            "x", f"planes of {x_shape[2:]}", "at most 2^31 - 1 pixels: argmax is int32"
        )
    return (kernel, stride, padding), out
