"""ReLU and dropout: element by element, so exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cases import SIZES
from mnist100 import functional as F  # noqa: N812
from support import Array, assert_same, draws, gradients, oracle, tensor

ODD = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -1e-45, 3e38, -3e38], np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_relu(variant: str, size: int, dtype: type) -> None:
    x, dy = draws(size, dtype=dtype), draws(size, seed=1, dtype=dtype)
    x_torch = tensor(x, grad=True)
    expected = torch.relu(x_torch)
    y = F.relu(x)
    assert_same(y, expected.detach().numpy())
    assert_same(y, oracle(F.relu, x))
    dx = F.relu_backward(dy, y)
    assert_same(dx, gradients(expected, dy, [x_torch])[0])
    assert_same(dx, oracle(F.relu_backward, dy, y))


@pytest.mark.parametrize("place", [0, 17])  # in a vector, and in what is left over
def test_relu_of_odd_values(variant: str, place: int) -> None:
    x = np.zeros(26, np.float32)
    x[place : place + len(ODD)] = ODD
    y = F.relu(x)
    assert_same(y, torch.relu(tensor(x)).numpy())
    assert_same(F.relu_backward(np.ones_like(x), y), (y > 0).astype(np.float32))


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3, 4, 5)])
def test_any_shape(variant: str, shape: tuple[int, ...]) -> None:
    x = draws(*shape)
    y = F.relu(x)
    assert_same(y, np.maximum(x, np.float32(0)))
    assert F.relu_backward(x, y).shape == shape
    z, mask = F.dropout(x, 0.5, seed=1, step=1)
    assert z.shape == mask.shape == F.dropout_backward(z, mask, 0.5).shape == shape


def test_views_and_inputs_are_left_alone(variant: str) -> None:
    x = draws(6, 8)[::2, ::-1].T
    before = x.copy()
    assert_same(F.relu(x), F.relu(before))
    y, mask = F.dropout(x, 0.3, seed=1, step=2)
    assert_same((y, mask), F.dropout(before, 0.3, seed=1, step=2))
    back = F.dropout_backward(y[:, ::2], mask[:, ::2], 0.3)
    assert_same(back, F.dropout_backward(y[:, ::2].copy(), mask[:, ::2].copy(), 0.3))
    assert_same(x, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_dropout_equals_the_oracle(variant: str, size: int, dtype: type) -> None:
    x, p = draws(size, dtype=dtype), 0.4
    y, mask = F.dropout(x, p, seed=2**63 + 5, step=2**40 + 1)
    assert_same((y, mask), oracle(F.dropout, x, p, seed=2**63 + 5, step=2**40 + 1))
    scale = dtype(1 / (1 - p))
    assert_same(y, np.where(mask == 1, x * scale, dtype(0)))
    dx = F.dropout_backward(x, mask, p)
    assert_same(dx, y)
    assert_same(dx, oracle(F.dropout_backward, x, mask, p))


@pytest.mark.parametrize("p", [0.0, 2.0**-32, 0.25, 1 - 2.0**-32, 1 - 2.0**-53])
def test_the_ends_of_p(variant: str, p: float) -> None:
    x = draws(999)
    y, mask = F.dropout(x, p, seed=3, step=4)
    assert_same((y, mask), oracle(F.dropout, x, p, seed=3, step=4))
    if p == 0:
        assert_same(y, x)
        assert mask.all()
    if p > 0.5:
        assert not mask.any()


def kept(seed: int, step: int, size: int = 40_000, p: float = 0.4) -> Array:
    return F.dropout(np.ones(size, np.float32), p, seed=seed, step=step)[1]


def test_the_share_that_is_kept(variant: str) -> None:
    # Binomial: deviation √(n·p·(1-p)); five of them are passed once in two million draws, and the
    # seed is fixed.
    n, p = 40_000, 0.4
    assert abs(int(kept(1, 0).sum()) - n * (1 - p)) < 5 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("other", [(1, 1), (2, 0), (1 + 2**32, 0), (1, 2**32)])
def test_seeds_and_steps_give_independent_masks(variant: str, other: tuple[int, int]) -> None:
    n, both = 40_000, 0.6**2 + 0.4**2
    equal = int((kept(1, 0) == kept(*other)).sum())
    assert abs(equal - n * both) < 5 * math.sqrt(n * both * (1 - both))
    neighbours = kept(*other)
    runs = int((neighbours[1:] == neighbours[:-1]).sum())
    assert abs(runs - n * both) < 5 * math.sqrt(n * both * (1 - both))


def test_a_mask_depends_on_position_alone(variant: str) -> None:
    assert_same(kept(7, 8, size=123), kept(7, 8)[:123])
    assert_same(kept(7, 8), kept(7, 8))
