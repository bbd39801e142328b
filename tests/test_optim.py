"""Updates of parameters against the oracle and torch.optim, and the optimisers around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cases import SIZES
from mnist100 import functional as F  # noqa: N812
from mnist100.layers import Parameter
from mnist100.optim import SGD, Adam, ExponentialAverage
from support import EPS, Array, assert_same, draws, oracle, tensor, whole

STEPS = 40


def parameters(dtype: type = np.float32) -> list[Parameter]:
    return [
        Parameter("a_W", draws(7, 5, dtype=dtype), decay=True),
        Parameter("a_b", draws(7, dtype=dtype), decay=False),
    ]


def adam(param: Array, grad: Array, m: Array, v: Array, step: int) -> tuple[Array, ...]:
    arrays = param.copy(), m.copy(), v.copy()
    F.adam_step(arrays[0], grad, *arrays[1:], step=step, lr=1e-2, l2=0.1, weight_decay=0.3)
    return arrays


def sgd(param: Array, grad: Array, velocity: Array) -> tuple[Array, ...]:
    arrays = param.copy(), velocity.copy()
    F.sgd_step(arrays[0], grad, arrays[1], lr=0.1, momentum=0.9, l2=0.1)
    return arrays


def ema(average: Array, param: Array) -> tuple[Array, ...]:
    out = average.copy()
    F.ema_update(out, param, 0.9)
    return (out,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_updates_agree_with_the_oracle(variant: str, size: int, dtype: type) -> None:
    p, g, m = (draws(size, seed=seed, dtype=dtype) for seed in (0, 1, 2))
    v = draws(size, seed=3, dtype=dtype) ** 2
    # A handful of roundings, each half an eps of a value of order 1 to 5.
    atol = 16 * float(np.finfo(dtype).eps)
    calls: list[tuple[Callable[..., tuple[Array, ...]], tuple[object, ...]]] = [
        (adam, (p, g, m, v, 3)),
        (sgd, (p, g, m)),
        (ema, (p, g)),
    ]
    for update, arguments in calls:
        for actual, expected in zip(update(*arguments), oracle(update, *arguments), strict=True):
            assert actual.dtype == dtype
            np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("size", SIZES)
def test_sum_squares(variant: str, size: int) -> None:
    x = whole(size)
    expected = float((x.astype(np.float64) ** 2).sum())
    assert F.sum_squares(x) == oracle(F.sum_squares, x) == expected
    y = draws(size)  # summed in double: nothing float32 about the result
    assert F.sum_squares(y) == pytest.approx(float((y.astype(np.float64) ** 2).sum()), rel=1e-13)
    assert F.sum_squares(y.astype(np.float64)) == pytest.approx(F.sum_squares(y), rel=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd", "momentum"])
def test_optimisers_follow_pytorch(variant: str, kind: str, dtype: type) -> None:
    ours, batch, reg = parameters(dtype), 4, 0.4
    theirs = [tensor(p.value, grad=True) for p in ours]
    groups: list[dict[str, Any]] = [
        {"params": theirs[:1], "weight_decay": reg / batch},
        {"params": theirs[1:]},
    ]
    optimizer: Adam | SGD
    other: torch.optim.Optimizer
    if kind == "adam":
        optimizer = Adam(ours, lr=0.02, reg_lambda=reg)
        other = torch.optim.Adam(groups, lr=0.02)
    elif kind == "adamw":
        optimizer = Adam(ours, lr=0.02, weight_decay=0.5)
        groups[0]["weight_decay"], groups[1]["weight_decay"] = 0.5, 0.0
        other = torch.optim.AdamW(groups, lr=0.02)
    else:
        momentum = 0.9 if kind == "momentum" else 0.0
        optimizer = SGD(ours, lr=0.02, momentum=momentum, reg_lambda=reg)
        other = torch.optim.SGD(groups, lr=0.02, momentum=momentum)
    for step in range(STEPS):
        for p, t in zip(ours, theirs, strict=True):
            p.grad = draws(*p.value.shape, seed=step, dtype=dtype)
            t.grad = tensor(p.grad)
        optimizer.step(batch)
        other.step()
    # Weights of order 1 that move by 0.02 or so a step: a few eps a step, added up.
    atol = 8 * float(np.finfo(dtype).eps) * STEPS
    for p, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.value, t.detach().numpy(), rtol=0, atol=atol)
    assert optimizer.steps == STEPS


def test_the_rate_can_be_changed(variant: str) -> None:
    (weight, _) = ours = parameters()
    optimizer = SGD(ours, lr=1.0)
    weight.grad = np.ones_like(weight.value)
    before = weight.value.copy()
    optimizer.lr = 0.5
    optimizer.step(1)
    assert_same(weight.value, before - np.float32(0.5))


def test_l2_leaves_biases_alone(variant: str) -> None:
    ours = parameters()
    before = [p.value.copy() for p in ours]
    optimizer = SGD(ours, lr=1.0, reg_lambda=3.0)
    squares = float((before[0].astype(np.float64) ** 2).sum())
    assert optimizer.reg_loss(6) == pytest.approx(3.0 / 12 * squares, rel=1e-12)
    optimizer.step(6)
    np.testing.assert_allclose(ours[0].value, before[0] / 2, rtol=2 * EPS)
    assert_same(ours[1].value, before[1])
    assert SGD(ours, lr=1.0).reg_loss(6) == 0.0


def test_adam_with_nothing_to_do_changes_nothing(variant: str) -> None:
    ours = parameters()
    before = [p.value.copy() for p in ours]
    Adam(ours).step(1)
    for p, value in zip(ours, before, strict=True):
        assert_same(p.value, value)


@pytest.mark.parametrize("magnitude", [1e-12, 1e12])
def test_adam_steps_by_the_rate_whatever_the_gradient_is(variant: str, magnitude: float) -> None:
    p, m, v = (np.zeros(9, np.float32) for _ in range(3))
    F.adam_step(p, np.full(9, magnitude, np.float32), m, v, step=1, lr=0.5, eps=0.0)
    np.testing.assert_allclose(p, -0.5, rtol=4 * EPS)


def test_exponential_average() -> None:
    ours = parameters()
    average = ExponentialAverage(ours, 0.5)
    expected = [p.value.astype(np.float64) for p in ours]
    for update in range(1, 9):
        decay = min(0.5, (1 + update) / (10 + update))
        for i, p in enumerate(ours):
            p.value[...] = draws(*p.value.shape, seed=update)
            expected[i] = decay * expected[i] + (1 - decay) * p.value
        average.update()
    values = [p.value.copy() for p in ours]
    with average.swap():
        for p, wanted in zip(ours, expected, strict=True):
            np.testing.assert_allclose(p.value, wanted, rtol=0, atol=32 * EPS)
    for p, value in zip(ours, values, strict=True):
        assert_same(p.value, value)


def swap_and_fail(average: ExponentialAverage) -> None:
    with average.swap():
        raise RuntimeError("inside")


def test_the_weights_come_back_after_an_error() -> None:
    ours = parameters()
    values = [p.value.copy() for p in ours]
    average = ExponentialAverage(ours, 0.0)
    for p in ours:
        p.value += 1
    with pytest.raises(RuntimeError, match="inside"):
        swap_and_fail(average)
    for p, value in zip(ours, values, strict=True):
        assert_same(p.value, value + np.float32(1))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"lr": -1.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
        ({"eps": -1e-8}, "eps"),
        ({"reg_lambda": -1.0}, "reg_lambda"),
    ],
)
def test_impossible_options(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: got .*, wants"):
        Adam(parameters(), **options)
    with pytest.raises(ValueError, match=r"^momentum: got 1.0, wants"):
        SGD(parameters(), lr=0.1, momentum=1.0)
    with pytest.raises(ValueError, match=r"^decay: got 1.0, wants"):
        ExponentialAverage(parameters(), 1.0)
