"""Convolution, alone and fused with bias, ReLU and pooling; im2col and col2im."""

from __future__ import annotations

from dataclasses import dataclass

from .. import _checks as check
from .. import _core
from .._checks import Array, IntOrPair


def im2col(
    x: Array, kernel_size: IntOrPair, stride: IntOrPair = 1, padding: IntOrPair = 0
) -> Array:
    """Windows of x (n, c, h, w) as rows: (n·oh·ow, c·kh·kw).

    Rows run over n, oh, ow; columns over c, kh, kw, with zeros where a window lies over the padding.
    """
    x = check.images("x", x)
    kernel, stride, padding, _ = check.window(check.shape4(x), kernel_size, stride, padding)
    return _core.im2col(x, kernel, stride, padding)


def col2im(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    kernel_size: IntOrPair,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
) -> Array:
    """The transpose of `im2col`: rows are added into an image batch of shape x_shape where they overlap."""
    x_shape = check.image_shape("x_shape", x_shape)
    kernel, stride, padding, (oh, ow) = check.window(x_shape, kernel_size, stride, padding)
    cols = check.array("cols", cols, None, 2)
    n, c = x_shape[:2]
    cols = check.shaped("cols", cols, (n * oh * ow, c * kernel[0] * kernel[1]), cols.dtype)
    return _core.col2im(cols, x_shape, kernel, stride, padding)


def conv2d(
    x: Array, w: Array, b: Array | None = None, stride: IntOrPair = 1, padding: IntOrPair = 0
) -> Array:
    """Cross-correlation of x (n, c, h, w) with w (oc, c, kh, kw), plus b (oc): (n, oc, oh, ow)."""
    x, w = _filters(x, w)
    _, stride, padding, _ = check.window(check.shape4(x), w.shape[2:], stride, padding)
    if b is not None:
        b = check.shaped("b", b, w.shape[:1], x.dtype)
    return _core.conv2d(x, w, b, stride, padding)


def conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    *,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Gradients (dx, dw, db) of `conv2d` for dy (n, oc, oh, ow); dx is None unless `need_dx`."""
    x, w = _filters(x, w)
    _, stride, padding, out = check.window(check.shape4(x), w.shape[2:], stride, padding)
    dy = check.shaped("dy", dy, (len(x), len(w), *out), x.dtype)
    return _core.conv2d_backward(dy, x, w, stride, padding, need_dx)


@dataclass(frozen=True, slots=True)
class BlockCache:
    """What `conv_block_backward` needs: arrays in the kernels' own layout."""

    x: Array  # padded NHWC
    y: Array  # padded NHWC
    argmax: Array  # uint8 (n, h//2, w//2, oc)
    w: Array
    y_border: tuple[int, int]


def conv_block(x: Array, w: Array, b: Array) -> tuple[Array, BlockCache]:
    """max_pool2d(relu(conv2d(x, w, b, padding=k//2)), 2), fused.

    Parameters
    ----------
    x : (n, c, h, w), h and w at least 2
    w : (oc, c, kh, kw), kh and kw odd
    b : (oc,)

    Returns
    -------
    y : (n, oc, h//2, w//2)
    cache : for `conv_block_backward`
    """
    x, w = _filters(x, w)
    if w.shape[2] % 2 == 0 or w.shape[3] % 2 == 0:
        raise check.fail("w", check.describe(w), "an odd kernel, so that the padding is even")
    check.pooled("x", x.shape)
    b = check.shaped("b", b, w.shape[:1], x.dtype)
    border = (w.shape[2] // 2, w.shape[3] // 2)
    padded = _core.pad_nhwc(x, border)
    y, argmax = _core.conv_block(padded, w, b, (0, 0))
    return _core.unpad_nhwc(y, (0, 0)), BlockCache(padded, y, argmax, w, (0, 0))


def conv_block_backward(
    dy: Array, cache: BlockCache, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients (dx, dw, db) of `conv_block` for dy (n, oc, h//2, w//2); dx is None unless `need_dx`."""
    check.cache("cache", cache, BlockCache, "conv_block")
    check.places("cache.argmax", cache.argmax)
    n, h, w, oc = cache.argmax.shape
    dy = check.shaped("dy", dy, (n, oc, h, w), cache.x.dtype)
    padded = _core.pad_nhwc(dy, cache.y_border)
    dx, dw, db = _core.conv_block_backward(
        padded, cache.x, cache.y, cache.argmax, cache.w, cache.y_border, need_dx
    )
    border = (cache.w.shape[2] // 2, cache.w.shape[3] // 2)
    return None if dx is None else _core.unpad_nhwc(dx, border), dw, db


def _filters(x: Array, w: Array) -> tuple[Array, Array]:
    x = check.images("x", x)
    w = check.images("w", w, x.dtype)
    if len(w) == 0:
        raise check.fail("w", check.describe(w), "at least one output channel")
    if w.shape[1] != x.shape[1]:
        wants = f"(oc, {x.shape[1]}, kh, kw) to match the channels of x {x.shape}"
        raise check.fail("w", check.describe(w), wants)
    return x, w
