"""Softmax and its cross-entropy against the oracle and PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cases import LOGITS, Logits
from mnist100 import functional as F  # noqa: N812
from mnist100.losses import SoftmaxCrossEntropy
from support import Array, assert_same, draws, oracle, tensor

LARGE = 30.0  # a deviation of logits at which most probabilities are nearly 0 or 1


def case(shape: Logits, scale: float, dtype: type = np.float32) -> tuple[Array, Array]:
    rng = np.random.default_rng([*shape])
    return draws(*shape, dtype=dtype) * dtype(scale), rng.integers(0, shape.classes, shape.n)


def assert_close(actual: Array, expected: Array, logits: Array) -> None:
    """Equality of probabilities but for rounding.

    x - max rounds by eps/2 of itself, which exp turns into as much relative error; exp is good to an eps
    or two, the sum of `classes` terms rounds once each. A float32 result below 1e-37 may be flushed.
    """
    eps = float(np.finfo(actual.dtype).eps)
    spread = float(np.ptp(logits, axis=1).max())
    rtol = eps * (4 + spread + logits.shape[1])
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=max(rtol * 1e-3, 1e-37))
    assert actual.dtype == expected.dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, LARGE])
@pytest.mark.parametrize("shape", LOGITS, ids=str)
def test_softmax(variant: str, shape: Logits, scale: float, dtype: type) -> None:
    logits, _ = case(shape, scale, dtype)
    p = F.softmax(logits)
    assert_close(p, oracle(F.softmax, logits), logits)
    assert_close(p, torch.softmax(tensor(logits), 1).numpy(), logits)
    rtol = 4 * float(np.finfo(dtype).eps) * shape.classes
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, LARGE])
@pytest.mark.parametrize("shape", LOGITS, ids=str)
def test_cross_entropy(variant: str, shape: Logits, scale: float, dtype: type) -> None:
    logits, labels = case(shape, scale, dtype)
    loss, dlogits = F.softmax_cross_entropy(logits, labels)
    other_loss, other_gradient = oracle(F.softmax_cross_entropy, logits, labels)
    logits_torch = tensor(logits, grad=True)
    expected = torch.nn.functional.cross_entropy(logits_torch, tensor(labels))
    (gradient,) = torch.autograd.grad(expected, [logits_torch])
    # log(sum) - x[label]: the sum's relative error becomes an absolute one of the loss.
    atol = float(np.finfo(dtype).eps) * (4 + shape.classes + float(np.abs(logits).max()))
    assert loss == pytest.approx(other_loss, rel=0, abs=atol)
    assert loss == pytest.approx(expected.item(), rel=0, abs=2 * atol)
    for wanted in (other_gradient, gradient.numpy()):
        # softmax - onehot: the error of a probability of 1 stays where the difference is small.
        np.testing.assert_allclose(dlogits, wanted, rtol=4 * atol, atol=atol / shape.n)
    assert dlogits.dtype == dtype
    assert isinstance(loss, float)


# In a row (0, x) the sum is 1 below x = -17, so that softmax is exp(x) itself; above, a quotient has it.
# FLT_MIN is exp(-87.34); what lies below may be 0.
def test_the_exponential_is_good_to_two_ulp(variant: str) -> None:
    points = 10_001 if variant.startswith("cuda") else 300_001  # emulated, it takes seconds
    x = np.linspace(-87.33, 0, points, dtype=np.float32)
    p = F.softmax(np.stack([np.zeros_like(x), x], axis=1)).astype(np.float64)
    expected = np.exp(x.astype(np.float64))
    ulp = np.spacing(expected.astype(np.float32))
    assert (np.abs(p[:, 1] / p[:, 0] - expected) / ulp).max() < 2


def test_the_smallest_exponentials(variant: str) -> None:
    x = np.array([[0, -87.33, -87.34, -100, -1e5, -3e38, -np.inf]], np.float32)
    p = F.softmax(x)[0]
    assert p[1] > 0
    assert_same(p[2:], np.zeros(5, np.float32))


@pytest.mark.parametrize("offset", [1e4, -1e4, 1e30])
def test_large_logits_do_not_overflow(variant: str, offset: float) -> None:
    logits = np.full((3, 5), offset, np.float32)
    assert_same(F.softmax(logits), np.full((3, 5), np.float32(0.2)))
    loss, dlogits = F.softmax_cross_entropy(logits, np.array([0, 1, 2]))
    assert loss == pytest.approx(math.log(5), abs=1e-6)
    assert np.isfinite(dlogits).all()


def test_hopeless_and_certain_rows(variant: str) -> None:
    logits = np.array([[0, 300], [0, 300]], np.float32)
    loss, dlogits = F.softmax_cross_entropy(logits, np.array([0, 1]))
    assert loss == 150
    assert_same(dlogits, np.array([[-0.5, 0.5], [0, 0]], np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_stays_in_its_row(variant: str, bad: float) -> None:
    logits, labels = case(Logits(17, 100), 1.0)
    logits[16, 99] = bad
    p = F.softmax(logits)
    assert np.isnan(p[16]).any()
    assert np.isfinite(p[:16]).all()
    loss, dlogits = F.softmax_cross_entropy(logits, labels)
    assert math.isnan(loss)
    assert np.isfinite(dlogits[:16]).all()


def test_minus_infinity_is_a_probability_of_zero(variant: str) -> None:
    p = F.softmax(np.array([[-np.inf, 0, 0]], np.float32))
    assert_same(p, np.array([[0, 0.5, 0.5]], np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_any_integers_serve_as_labels(variant: str, dtype: type) -> None:
    logits, labels = case(Logits(17, 100), 1.0)
    expected = F.softmax_cross_entropy(logits, labels)
    assert_same(F.softmax_cross_entropy(logits, labels.astype(dtype)), expected)
    assert_same(F.softmax_cross_entropy(logits, labels.tolist()), expected)
    assert_same(SoftmaxCrossEntropy()(logits, labels), expected)


def test_softmax_of_no_rows(variant: str) -> None:
    assert F.softmax(np.empty((0, 7), np.float32)).shape == (0, 7)


def test_views_and_inputs_are_left_alone(variant: str) -> None:
    logits, labels = draws(14, 9)[::2, ::-1], np.arange(14)[::2] % 9
    before = logits.copy(), labels.copy()
    assert_same(F.softmax(logits), F.softmax(before[0]))
    assert_same(F.softmax_cross_entropy(logits, labels), F.softmax_cross_entropy(*before))
    assert_same((logits, labels), before)
