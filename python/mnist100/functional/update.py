"""Updates of parameters, in place."""

from __future__ import annotations

from .. import _checks as check
from .. import _core
from .._checks import Array


def adam_step(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    l2: float = 0.0,
    weight_decay: float = 0.0,
) -> None:
    """One Adam update of param, m and v in place (Kingma & Ba 2015, algorithm 1).

    The gradient is grad + l2 · param; epsilon stands outside the root; `step` counts from 1. `weight_decay`
    is decoupled: param loses lr · weight_decay · param as well (Loshchilov & Hutter 2019, AdamW).
    """
    param, grad = _update(param, grad)
    m = check.in_place("m", m, param.shape, param.dtype)
    v = check.in_place("v", v, param.shape, param.dtype)
    check.apart("param", param, grad=grad, m=m, v=v)
    check.apart("m", m, grad=grad, v=v)
    check.apart("v", v, grad=grad)
    _core.adam_step(
        param,
        grad,
        m,
        v,
        check.integer("step", step, 1, 2**63 - 1),
        check.real("lr", lr, 0),
        check.probability("beta1", beta1),
        check.probability("beta2", beta2),
        check.real("eps", eps, 0),
        check.real("l2", l2, 0),
        check.real("weight_decay", weight_decay, 0),
    )


def sgd_step(
    param: Array, grad: Array, velocity: Array, *, lr: float, momentum: float = 0.0, l2: float = 0.0
) -> None:
    """velocity = momentum · velocity + grad + l2 · param; param -= lr · velocity. In place."""
    param, grad = _update(param, grad)
    velocity = check.in_place("velocity", velocity, param.shape, param.dtype)
    check.apart("param", param, grad=grad, velocity=velocity)
    check.apart("velocity", velocity, grad=grad)
    lr, momentum = check.real("lr", lr, 0), check.probability("momentum", momentum)
    _core.sgd_step(param, grad, velocity, lr, momentum, check.real("l2", l2, 0))


def ema_update(average: Array, param: Array, decay: float) -> None:
    """average = decay · average + (1 - decay) · param, in place."""
    param = check.array("param", param)
    average = check.in_place("average", average, param.shape, param.dtype)
    check.apart("average", average, param=param)
    _core.ema_update(average, param, check.real("decay", decay, 0, 1))


def sum_squares(x: Array) -> float:
    """Σ x², added in double precision in a fixed order."""
    return _core.sum_squares(check.array("x", x))


def _update(param: Array, grad: Array) -> tuple[Array, Array]:
    grad = check.array("grad", grad)
    return check.in_place("param", param, grad.shape, grad.dtype), grad
