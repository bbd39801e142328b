"""The fused linear + bias + ReLU + dropout, against the oracle and its own parts."""

from __future__ import annotations

import numpy as np
import pytest

from cases import LINEAR, Dense
from mnist100 import functional as F  # noqa: N812
from support import Array, assert_same, draws, oracle, whole

SHAPES = [s for s in LINEAR if s.outputs and s.inputs]
KEY = {"seed": 5, "step": 3}


def both_ways(s: Dense, p: float, x: Array, w: Array, b: Array) -> tuple[Array, ...]:
    """y, dx, dw, db."""
    y = F.linear_block(x, w, b, p, **KEY)
    dy = whole(s.n, s.outputs, seed=2)
    dx, dw, db = F.linear_block_backward(dy, y, x, w, p)
    none, *same = F.linear_block_backward(dy, y, x, w, p, need_dx=False)
    assert none is None
    assert_same(tuple(same), (dw, db))
    assert dx is not None
    return y, dx, dw, db


# 1 / (1 - p) is a power of two, so that sums of whole numbers stay exact.
@pytest.mark.parametrize("p", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_oracle_and_its_parts(exact_variant: str, shape: Dense, p: float) -> None:
    x, w = whole(shape.n, shape.inputs), whole(shape.outputs, shape.inputs, seed=1)
    b = whole(shape.outputs)
    found = both_ways(shape, p, x, w, b)
    assert_same(found, oracle(both_ways, shape, p, x, w, b))

    hidden = F.relu(F.linear(x, w, b))
    y, mask = F.dropout(hidden, p, **KEY)
    assert_same(found[0], y)
    back = F.relu_backward(F.dropout_backward(whole(*y.shape, seed=2), mask, p), hidden)
    assert_same(found[1:], F.linear_backward(back, x, w))


def test_nan_is_kept_where_dropout_keeps_it(variant: str) -> None:
    x, w, b = draws(9, 20), draws(70, 20), draws(70)
    x[3, 4] = np.nan
    y = F.linear_block(x, w, b, 0.5, **KEY)
    kept = F.dropout(np.ones((9, 70), np.float32), 0.5, **KEY)[1].astype(bool)
    assert_same(np.isnan(y[3]), kept[3])
    assert not np.isnan(np.delete(y, 3, axis=0)).any()


def test_every_place_draws_its_own_bits(variant: str) -> None:
    """Rows that are no multiple of a Philox block or of a vector, in few rows and in many."""
    for n, outputs in ((1, 37), (5, 3), (40, 37), (300, 101)):
        x, w = np.ones((n, 2), np.float32), np.ones((outputs, 2), np.float32)
        y = F.linear_block(x, w, np.zeros(outputs, np.float32), 0.4, **KEY)
        mask = F.dropout(np.ones((n, outputs), np.float32), 0.4, **KEY)[1]
        assert_same(y > 0, mask.astype(bool))
