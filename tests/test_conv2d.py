"""Convolution of any shape, forward and backward, against the oracle and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cases import CONV, Conv
from mnist100 import functional as F  # noqa: N812
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


def taps(s: Conv) -> int:
    return s.c * s.kernel[0] * s.kernel[1]


def run(s: Conv, x: Array, w: Array, b: Array | None) -> Array:
    return F.conv2d(x, w, b, s.stride, s.padding)


@pytest.mark.parametrize("shape", CONV, ids=str)
def test_equals_the_oracle(exact_variant: str, shape: Conv) -> None:
    x, w = whole(shape.n, shape.c, shape.h, shape.w), whole(shape.oc, shape.c, *shape.kernel)
    for b in (None, whole(shape.oc)):
        assert_whole(run(shape, x, w, b), oracle(run, shape, x, w, b))
    y = run(shape, x, w, None)
    arguments = whole(*y.shape, seed=1), x, w, shape.stride, shape.padding
    dx, dw, db = F.conv2d_backward(*arguments)
    assert_whole((dx, dw, db), oracle(F.conv2d_backward, *arguments))
    assert_same(F.conv2d_backward(*arguments, need_dx=False), (None, dw, db))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", CONV, ids=str)
def test_agrees_with_pytorch(variant: str, shape: Conv, dtype: type) -> None:
    arrays = (
        draws(shape.n, shape.c, shape.h, shape.w, dtype=dtype),
        draws(shape.oc, shape.c, *shape.kernel, seed=1, dtype=dtype),
        draws(shape.oc, dtype=dtype),
    )
    tensors = [tensor(a, grad=True) for a in arrays]
    x, w, b = tensors
    expected = torch.nn.functional.conv2d(x, w, b, shape.stride, shape.padding)
    y = run(shape, *arrays)
    assert_sum_close(y, expected, taps(shape) + 1)
    dy = draws(*y.shape, seed=2, dtype=dtype)
    found = F.conv2d_backward(dy, *arrays[:2], shape.stride, shape.padding)
    pixels = shape.n * y.shape[2] * y.shape[3]
    terms = [shape.oc * shape.kernel[0] * shape.kernel[1], pixels, pixels]
    for actual, wanted, count in zip(found, gradients(expected, dy, tensors), terms, strict=True):
        assert actual is not None
        assert_sum_close(actual, wanted, count)


def test_views_and_inputs_are_left_alone(variant: str) -> None:
    x, w = whole(2, 6, 8, 9)[:, ::2, :, ::-1], whole(4, 3, 3, 3).transpose(0, 1, 3, 2)
    dy = whole(2, 7, 6, 4).transpose(0, 3, 2, 1)
    copies = dy.copy(), x.copy(), w.copy()
    assert_same(F.conv2d(x, w), F.conv2d(*copies[1:]))
    assert_same(F.conv2d_backward(dy, x, w), F.conv2d_backward(*copies))
    assert_same((dy, x, w), copies)


def test_a_window_wholly_over_the_padding_gives_the_bias(variant: str) -> None:
    x, w, b = whole(1, 2, 2, 2), whole(3, 2, 2, 2), whole(3, seed=1)
    y = F.conv2d(x, w, b, padding=4)
    assert_same(y[0, :, 0, 0], b)
    assert_same(y[0, :, -1, -1], b)
