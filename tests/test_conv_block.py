"""The fused conv + bias + ReLU + max-pool, against the oracle, PyTorch and its own parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cases import BLOCK, Block
from mnist100 import _core
from mnist100 import functional as F  # noqa: N812
from support import Array, assert_same, assert_sum_close, draws, gradients, oracle, tensor, whole

SMALL = [shape for shape in BLOCK if shape.n * shape.h * shape.w * shape.c * shape.oc < 100_000]


def inputs(shape: Block, draw: type, dtype: type = np.float32) -> tuple[Array, Array, Array]:
    return (
        draw(shape.n, shape.c, shape.h, shape.w, dtype=dtype),
        draw(shape.oc, shape.c, *shape.kernel, seed=1, dtype=dtype),
        draw(shape.oc, dtype=dtype),
    )


def both_ways(
    x: Array, w: Array, b: Array, need_dx: bool = True
) -> tuple[Array, Array, Array | None, Array, Array]:
    """y, argmax, dx, dw, db, with a gradient at y of whole numbers."""
    y, cache = F.conv_block(x, w, b)
    dy = whole(*y.shape, seed=2, dtype=y.dtype.type)
    return y, cache.argmax, *F.conv_block_backward(dy, cache, need_dx=need_dx)


# Half of all whole-number windows are tied, a good part of them at a ReLU's zero.
@pytest.mark.parametrize("shape", BLOCK, ids=str)
def test_equals_the_oracle(exact_variant: str, shape: Block) -> None:
    arrays = inputs(shape, whole)  # type: ignore[arg-type]
    expected = oracle(both_ways, *arrays)
    assert_same(both_ways(*arrays), expected)
    assert_same(both_ways(*arrays, need_dx=False), (*expected[:2], None, *expected[3:]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_agrees_with_pytorch(variant: str, shape: Block, dtype: type) -> None:
    arrays = inputs(shape, draws, dtype)  # type: ignore[arg-type]
    tensors = [tensor(a, grad=True) for a in arrays]
    padding = shape.kernel[0] // 2, shape.kernel[1] // 2
    pixels = torch.nn.functional.conv2d(tensors[0], tensors[1], tensors[2], padding=padding)
    expected = torch.nn.functional.max_pool2d(torch.relu(pixels), 2)
    y, cache = F.conv_block(*arrays)
    assert_sum_close(y, expected, shape.c * shape.kernel[0] * shape.kernel[1] + 1)

    dy = draws(*y.shape, seed=2, dtype=dtype)
    windows = shape.n * y.shape[2] * y.shape[3]
    terms = [shape.oc * shape.kernel[0] * shape.kernel[1], windows, windows]
    wanted = gradients(expected, dy, tensors)
    for actual, other, count in zip(F.conv_block_backward(dy, cache), wanted, terms, strict=True):
        assert actual is not None
        assert_sum_close(actual, other, count)


@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_is_what_its_parts_are(variant: str, shape: Block) -> None:
    x, w, b = inputs(shape, whole)  # type: ignore[arg-type]
    padding = shape.kernel[0] // 2, shape.kernel[1] // 2
    y, _, dx, dw, db = both_ways(x, w, b)
    pixels = F.relu(F.conv2d(x, w, b, padding=padding))
    pooled, argmax = F.max_pool2d(pixels, 2)
    assert_same(y, pooled)
    dy = whole(*y.shape, seed=2)
    dpixels = F.max_pool2d_backward(dy, argmax, pixels.shape, 2)
    dpixels = F.relu_backward(dpixels, pixels)
    assert_same((dx, dw, db), F.conv2d_backward(dpixels, x, w, padding=padding))


@pytest.mark.parametrize("border", [(1, 1), (0, 2)])
def test_the_border_around_y(variant: str, border: tuple[int, int]) -> None:
    x, w, b = whole(2, 3, 5, 7), whole(17, 3, 3, 3), whole(17)
    plain, cache = F.conv_block(x, w, b)
    y, argmax = _core.conv_block(cache.x, w, b, border)
    assert_same(y, _core.pad_nhwc(plain, border))
    assert_same(argmax, cache.argmax)
    dy = whole(*plain.shape, seed=1)
    padded = _core.pad_nhwc(dy, border)
    padded[:, : border[0]] = padded[:, :, : border[1]] = np.nan  # ignored
    dx, dw, db = _core.conv_block_backward(padded, cache.x, y, argmax, w, border, True)
    assert dx is not None
    assert_same((_core.unpad_nhwc(dx, (1, 1)), dw, db), F.conv_block_backward(dy, cache))


def test_ties_go_to_the_first_and_dead_windows_get_no_gradient(variant: str) -> None:
    x = np.ones((1, 1, 2, 4), np.float32)
    w = np.array([1, -1], np.float32).reshape(2, 1, 1, 1)
    y, cache = F.conv_block(x, w, np.zeros(2, np.float32))
    assert_same(y, np.array([[[[1, 1]], [[0, 0]]]], np.float32))
    assert not cache.argmax.any()
    dx, dw, db = F.conv_block_backward(np.ones_like(y), cache)
    assert_same(dx, np.array([[[[1, 0, 1, 0], [0, 0, 0, 0]]]], np.float32))
    assert_same(dw.ravel(), np.array([2, 0], np.float32))
    assert_same(db, np.array([2, 0], np.float32))


def test_nan_spoils_what_it_touches_and_no_more(variant: str) -> None:
    x, w, b = whole(2, 2, 6, 6), whole(5, 2, 3, 3), whole(5)
    clean, _ = F.conv_block(x, w, b)
    x[1, 0, 0, 0] = np.nan
    y, cache = F.conv_block(x, w, b)
    touched = np.zeros(y.shape, bool)
    touched[1, :, 0, 0] = True
    assert np.isnan(y[touched]).all()
    assert_same(y[~touched], clean[~touched])
    assert_same((y, cache.argmax), oracle(both_ways, x, w, b)[:2])


def test_the_cache_keeps_weights_and_inputs_without_a_copy(variant: str) -> None:
    x, w, b = draws(1, 2, 4, 4), draws(3, 2, 3, 3), draws(3)
    before = x.copy(), w.copy(), b.copy()
    y, cache = F.conv_block(x, w, b)
    assert cache.w is w
    dy = np.ones_like(y)
    F.conv_block_backward(dy, cache)
    assert_same((x, w, b), before)
    assert_same(dy, np.ones_like(y))


def test_views(variant: str) -> None:
    x, w = whole(2, 6, 5, 4).transpose(0, 1, 3, 2)[:, ::2], whole(8, 3, 3, 3)[::-2]
    b = whole(8)[::2]
    assert_same(both_ways(x, w, b), both_ways(x.copy(), w.copy(), b.copy()))
