"""Pairs as single digits and back, and the logits of pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from cases import LAYOUT, LOGITS, Layout, Logits
from mnist100 import _core
from mnist100 import functional as F  # noqa: N812
from mnist100.halves import Halves, PairLogits
from mnist100.layers import Padded, to_nchw
from mnist100.operations import Operations
from mnist100.reference import numpy_backend as B  # noqa: N812
from support import Array, assert_same, assert_sum_close, draws, oracle, whole

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def halves_of(x: Array) -> Array:
    w = x.shape[3] // 2
    return np.stack([x[..., :w], x[..., w:]], axis=1).reshape(-1, *x.shape[1:3], w)


@DTYPES
@pytest.mark.parametrize("shape", LAYOUT, ids=str)
def test_halves(variant: str, shape: Layout, dtype: npt.DTypeLike) -> None:
    x = draws(shape.n, shape.c, shape.h, 2 * shape.w, dtype=dtype)
    halves = F.split_halves(x)
    assert_same(halves, halves_of(x))
    assert_same(F.join_halves(halves), x)
    assert_same(B.split_halves(x), halves)
    assert_same(B.join_halves(halves), x)
    for border in ((0, 0), (1, 1), (2, 0)):
        padded = _core.split_halves(x, border)
        assert_same(padded, _core.pad_nhwc(halves, border))
        assert_same(oracle(_core.split_halves, x, border), padded)
        padded[:, : border[0]] = padded[:, :, : border[1]] = np.nan  # ignored
        assert_same(_core.join_halves(padded, border), x)
        assert_same(oracle(_core.join_halves, padded, border), x)


@DTYPES
@pytest.mark.parametrize("shape", [Logits(0, 3), *LOGITS[:-1]], ids=str)
def test_pair_logits(variant: str, shape: Logits, dtype: npt.DTypeLike) -> None:
    n, k = shape
    scores = draws(2 * n, k, dtype=dtype)
    logits = F.pair_logits(scores)
    assert_same(logits, (scores[0::2, :, None] + scores[1::2, None, :]).reshape(n, k * k))
    assert_same(oracle(F.pair_logits, scores), logits)
    assert_same(B.pair_logits(scores), logits)
    dz = whole(n, k * k, dtype=dtype)
    expected = oracle(F.pair_logits_backward, dz)
    assert_same(F.pair_logits_backward(dz), expected)
    assert_same(B.pair_logits_backward(dz), expected)
    table = draws(n, k * k, dtype=dtype)
    assert_sum_close(F.pair_logits_backward(table), B.pair_logits_backward(table), k)


def test_pairs_factorise(variant: str) -> None:
    """The cross-entropy of a pair is that of its left digit plus that of its right one."""
    scores, left, right = draws(34, 10), np.arange(17) % 10, np.arange(17) * 3 % 10
    loss, dz = F.softmax_cross_entropy(F.pair_logits(scores), 10 * left + right)
    parts = [
        F.softmax_cross_entropy(np.ascontiguousarray(scores[side::2]), labels)
        for side, labels in enumerate((left, right))
    ]
    assert loss == pytest.approx(sum(part[0] for part in parts), rel=1e-6)
    dscores = F.pair_logits_backward(dz)
    for side, (_, gradient) in enumerate(parts):
        np.testing.assert_allclose(dscores[side::2], gradient, rtol=0, atol=1e-7)


@pytest.mark.parametrize("ops", [F, B])
def test_layers(variant: str, ops: Operations) -> None:
    halves, pairs = Halves(), PairLogits()
    for layer in (halves, pairs):
        layer.use(ops)
        assert list(layer.parameters) == []
    x = draws(3, 2, 4, 6)
    y, cache = halves.forward(x, 1)
    assert isinstance(y, Padded) == (ops is F)
    assert_same(to_nchw(y), halves_of(x))
    assert_same(to_nchw(halves(x)), halves_of(x))
    assert_same(halves.backward(y, cache), x)
    assert_same(halves.backward(to_nchw(y), cache), x)
    assert halves.backward(y, cache, need_dx=False) is None
    scores = draws(6, 4)
    logits, cache = pairs.forward(scores, 1)
    assert_same(logits, F.pair_logits(scores))
    dscores = pairs.backward(logits, cache)
    assert dscores is not None
    assert_sum_close(dscores, F.pair_logits_backward(logits), 4)
    assert pairs.backward(logits, cache, need_dx=False) is None
