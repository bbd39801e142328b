"""Optimisers: they own their moments and change `Parameter.value` in place.

L2 regularisation is part of the loss, λ/(2·B)·ΣW² over the weights of a batch of B, and so enters each
gradient as (λ/B)·W. `ops` are the functions of a backend (`mnist100.operations`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from . import _checks as check
from . import functional as F  # noqa: N812
from .layers import Parameter
from .operations import Operations
from .parameters import Tensor


class Optimizer:
    """What all optimisers share: the parameters, the rate, λ and the count of steps taken."""

    def __init__(
        self, parameters: Sequence[Parameter], lr: float, reg_lambda: float, ops: Operations
    ) -> None:
        self.parameters = list(parameters)
        for parameter in self.parameters:
            if not isinstance(parameter, Parameter):
                raise check.fail_type("parameters", check.describe(parameter), "Parameters only")
        self.lr = check.real("lr", lr, 0)
        self.reg_lambda = check.real("reg_lambda", reg_lambda, 0)
        self.ops = ops
        self.steps = 0

    def reg_loss(self, batch_size: int) -> float:
        """λ/(2·B)·ΣW² at the present weights."""
        if self.reg_lambda == 0:
            return 0.0
        squares = sum(self.ops.sum_squares(p.value) for p in self.parameters if p.decay)
        return self.reg_lambda / (2 * batch_size) * squares

    def step(self, batch_size: int) -> None:
        """Update every parameter from its gradient, taken over a batch of `batch_size`."""
        self.steps += 1
        for i, parameter in enumerate(self.parameters):
            l2 = self.reg_lambda / batch_size if parameter.decay else 0.0
            self._update(i, parameter, l2)

    def _update(self, i: int, parameter: Parameter, l2: float) -> None:
        raise NotImplementedError  # abstract


class Adam(Optimizer):
    """m ← β₁m + (1-β₁)g, v ← β₂v + (1-β₂)g², w ← w - lr · m̂ / (√v̂ + ε) (Kingma & Ba 2015).

    Weights, and no bias, lose lr · `weight_decay` · w as well (AdamW, Loshchilov & Hutter 2019).
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        *,
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        reg_lambda: float = 0.0,
        weight_decay: float = 0.0,
        ops: Operations = F,
    ) -> None:
        super().__init__(parameters, lr, reg_lambda, ops)
        self.weight_decay = check.real("weight_decay", weight_decay, 0)
        self.beta1 = check.probability("beta1", beta1)
        self.beta2 = check.probability("beta2", beta2)
        self.eps = check.real("eps", eps, 0)
        self.m = [np.zeros_like(p.value) for p in self.parameters]
        self.v = [np.zeros_like(p.value) for p in self.parameters]

    def _update(self, i: int, parameter: Parameter, l2: float) -> None:
        self.ops.adam_step(
            parameter.value,
            parameter.grad,
            self.m[i],
            self.v[i],
            step=self.steps,
            lr=self.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            l2=l2,
            weight_decay=self.weight_decay if parameter.decay else 0.0,
        )


class SGD(Optimizer):
    """v ← μv + g, w ← w - lr · v, as PyTorch's with dampening 0."""

    def __init__(
        self,
        parameters: Sequence[Parameter],
        *,
        lr: float,
        momentum: float = 0.0,
        reg_lambda: float = 0.0,
        ops: Operations = F,
    ) -> None:
        super().__init__(parameters, lr, reg_lambda, ops)
        self.momentum = check.probability("momentum", momentum)
        self.velocity = [np.zeros_like(p.value) for p in self.parameters]

    def _update(self, i: int, parameter: Parameter, l2: float) -> None:
        self.ops.sgd_step(
            parameter.value,
            parameter.grad,
            self.velocity[i],
            lr=self.lr,
            momentum=self.momentum,
            l2=l2,
        )


def average_decay(decay: float, updates: int) -> float:
    """The decay of an exponential average at its update number `updates`, from 1."""
    return min(decay, (1 + updates) / (10 + updates))


class ExponentialAverage:
    """A second set of weights: avg ← d·avg + (1-d)·w, d = min(decay, (1+t)/(10+t)) at update t.

    The early, smaller d keeps the random start out of the average. Buffers are averaged like weights:
    running statistics then are those of activations under the weights that were averaged.
    """

    def __init__(self, tensors: Sequence[Tensor], decay: float, ops: Operations = F) -> None:
        self.tensors = list(tensors)
        self.ops = ops
        self.decay = check.probability("decay", decay)
        self.averages = [t.value.copy() for t in self.tensors]
        self.updates = 0

    def update(self) -> None:
        """Take in the present weights."""
        self.updates += 1
        decay = average_decay(self.decay, self.updates)
        for average, tensor in zip(self.averages, self.tensors, strict=True):
            self.ops.ema_update(average, tensor.value, decay)

    @contextmanager
    def swap(self) -> Iterator[None]:
        """Inside the `with` block, the tensors hold the averages."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for i, tensor in enumerate(self.tensors):
            tensor.value, self.averages[i] = self.averages[i], tensor.value
