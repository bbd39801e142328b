"""Stride-1 "same" convolution between padded NHWC images, against the oracle and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cases import SAME, Block
from mnist100 import _core
from support import (
    Array,
    assert_same,
    assert_sum_close,
    assert_whole,
    draws,
    gradients,
    oracle,
    tensor,
    whole,
)

BORDERS = [(0, 0), (1, 2)]


def inputs(s: Block, draw: type, dtype: type = np.float32) -> tuple[Array, Array, Array]:
    return (
        draw(s.n, s.c, s.h, s.w, dtype=dtype),
        draw(s.oc, s.c, *s.kernel, seed=1, dtype=dtype),
        draw(s.oc, dtype=dtype),
    )


def both_ways(
    s: Block,
    x: Array,
    w: Array,
    b: Array | None,
    dy: Array,
    relu: bool,
    border: tuple[int, int],
    whole: bool,
) -> tuple[Array, Array, Array, Array]:
    """y, dx, dw, db; NCHW in and out, everything in between as the kernels have it.

    `whole`: that y is of whole numbers, and of those it decides which are above 0.
    """
    inner = s.kernel[0] // 2, s.kernel[1] // 2
    padded = _core.pad_nhwc(x, inner)
    y = _core.conv_same(padded, w, b, relu, border)
    edges = y.copy()
    edges[:, border[0] : border[0] + s.h, border[1] : border[1] + s.w] = 0
    assert not edges.any()
    gradient = _core.pad_nhwc(dy, border)
    gradient[:, : border[0]] = gradient[:, :, : border[1]] = np.nan  # ignored
    kept = (np.rint(y) if whole else y) if relu else None
    dx, dw, db = _core.conv_same_backward(gradient, padded, kept, w, border, True)
    assert dx is not None
    none, *same = _core.conv_same_backward(gradient, padded, kept, w, border, False)
    assert none is None
    assert_same(tuple(same), (dw, db))
    return _core.unpad_nhwc(y, border), _core.unpad_nhwc(dx, inner), dw, db


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", SAME, ids=str)
def test_equals_the_oracle(
    exact_variant: str, shape: Block, relu: bool, border: tuple[int, int]
) -> None:
    x, w, b = inputs(shape, whole)  # type: ignore[arg-type]
    dy = whole(shape.n, shape.oc, shape.h, shape.w, seed=2)
    for bias in (b, None):
        expected = oracle(both_ways, shape, x, w, bias, dy, relu, border, True)
        assert_whole(both_ways(shape, x, w, bias, dy, relu, border, True), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", SAME, ids=str)
def test_agrees_with_pytorch(variant: str, shape: Block, relu: bool, dtype: type) -> None:
    arrays = inputs(shape, draws, dtype)  # type: ignore[arg-type]
    tensors = [tensor(a, grad=True) for a in arrays]
    padding = shape.kernel[0] // 2, shape.kernel[1] // 2
    expected = torch.nn.functional.conv2d(tensors[0], tensors[1], tensors[2], padding=padding)
    expected = torch.relu(expected) if relu else expected
    dy = draws(shape.n, shape.oc, shape.h, shape.w, seed=2, dtype=dtype)
    y, *found = both_ways(shape, *arrays, dy, relu, (1, 1), False)
    taps = shape.kernel[0] * shape.kernel[1]
    assert_sum_close(y, expected, shape.c * taps + 1)
    pixels = shape.n * shape.h * shape.w
    terms = [shape.oc * taps, pixels, pixels]
    for actual, wanted, count in zip(found, gradients(expected, dy, tensors), terms, strict=True):
        assert_sum_close(actual, wanted, count)


@pytest.mark.parametrize("channels", [2, 32])
def test_relu_keeps_nan(variant: str, channels: int) -> None:
    x, w = whole(1, channels, 4, 4), whole(16, channels, 3, 3)
    x[0, 0, 0, 0] = np.nan
    y = _core.unpad_nhwc(_core.conv_same(_core.pad_nhwc(x, (1, 1)), w, None, True, (0, 0)), (0, 0))
    assert np.isnan(y[:, :, :2, :2]).all()
    assert not np.isnan(y[:, :, 2:]).any()
    assert not np.isnan(y[:, :, :, 2:]).any()


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_what_it_is(variant: str, odd: float) -> None:
    shape = Block(3, 16, 6, 9, 32)
    x, w, b = inputs(shape, whole)  # type: ignore[arg-type]
    dy = whole(shape.n, shape.oc, shape.h, shape.w, seed=2)
    x[1, 3, 2, 4] = dy[1, 5, 3, 8] = odd
    expected = oracle(both_ways, shape, x, w, b, dy, False, (1, 1), True)
    assert not any(np.isfinite(one).all() for one in expected)
    assert_whole(both_ways(shape, x, w, b, dy, False, (1, 1), True), expected)
