"""The fully connected layer against the oracle and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cases import LINEAR, Dense
from mnist100 import functional as F  # noqa: N812
from support import assert_same, assert_sum_close, draws, gradients, oracle, tensor, whole


@pytest.mark.parametrize("shape", LINEAR, ids=str)
def test_equals_the_oracle(exact_variant: str, shape: Dense) -> None:
    x, w = whole(shape.n, shape.inputs), whole(shape.outputs, shape.inputs, seed=1)
    for b in (None, whole(shape.outputs)):
        assert_same(F.linear(x, w, b), oracle(F.linear, x, w, b))
    dy = whole(shape.n, shape.outputs, seed=2)
    dx, dw, db = F.linear_backward(dy, x, w)
    assert_same((dx, dw, db), oracle(F.linear_backward, dy, x, w))
    assert_same(F.linear_backward(dy, x, w, need_dx=False), (None, dw, db))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", LINEAR, ids=str)
def test_agrees_with_pytorch(variant: str, shape: Dense, dtype: type) -> None:
    arrays = (
        draws(shape.n, shape.inputs, dtype=dtype),
        draws(shape.outputs, shape.inputs, seed=1, dtype=dtype),
        draws(shape.outputs, dtype=dtype),
    )
    tensors = [tensor(a, grad=True) for a in arrays]
    expected = torch.nn.functional.linear(*tensors)
    assert_sum_close(F.linear(*arrays), expected, shape.inputs + 1)
    dy = draws(shape.n, shape.outputs, seed=2, dtype=dtype)
    found = F.linear_backward(dy, *arrays[:2])
    wanted = gradients(expected, dy, tensors)
    for actual, other, count in zip(found, wanted, (shape.outputs, shape.n, shape.n), strict=True):
        assert actual is not None
        assert_sum_close(actual, other, count)


def test_views_and_inputs_are_left_alone(variant: str) -> None:
    x, w = whole(8, 10)[::2].T, whole(4, 6, seed=1).T[:, ::-1]
    b, dy = whole(12)[::2], whole(10, 12)[:, ::2]
    copies = [a.copy() for a in (dy, x, w, b)]
    assert_same(F.linear(x, w, b), F.linear(*copies[1:]))
    assert_same(F.linear_backward(dy, x, w), F.linear_backward(*copies[:3]))
    assert_same((dy, x, w, b), tuple(copies))
