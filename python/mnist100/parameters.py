"""The tensors that training changes, and their start values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _checks as check
from . import functional as F  # noqa: N812
from ._checks import Array


@dataclass(slots=True)
class Parameter:
    """A tensor that training changes, and its gradient."""

    name: str
    value: Array
    decay: bool  # whether L2 applies: weights yes, biases no
    grad: Array = field(init=False)

    def __post_init__(self) -> None:
        self.grad = np.zeros_like(self.value)

    def drop_grad(self) -> None:
        """Give the gradient's memory back; zeros of no memory stand in until the next backward pass."""
        self.grad = np.broadcast_to(np.zeros((), self.value.dtype), self.value.shape)


@dataclass(slots=True)
class Buffer:
    """A tensor that training changes without a gradient, saved with the weights."""

    name: str
    value: Array
    least: float = -math.inf  # the least value that makes sense


Tensor: TypeAlias = Parameter | Buffer


class Initialiser(Protocol):
    """Draws a weight (out, …) from a seed and a stream of it."""

    def __call__(
        self, shape: tuple[int, ...], *, seed: int, stream: int, dtype: npt.DTypeLike
    ) -> Array: ...


def he_normal(shape: tuple[int, ...], *, seed: int, stream: int, dtype: npt.DTypeLike) -> Array:
    """Normal with deviation √(2 / fan_in), fan_in being all axes but the first (He et al. 2015)."""
    deviation = math.sqrt(2 / math.prod(shape[1:]))
    return (deviation * F.normal(shape, seed=seed, step=stream)).astype(dtype)


def fan_in_uniform(
    shape: tuple[int, ...], *, seed: int, stream: int, dtype: npt.DTypeLike
) -> Array:
    """Uniform in ±1/√fan_in, deviation 1/√(3 · fan_in): what PyTorch's layers start with."""
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return (bound * (2 * F.uniform(shape, seed=seed, step=stream) - 1)).astype(dtype)


def weights(
    name: str,
    shape: tuple[int, ...],
    seed: int,
    stream: int,
    dtype: npt.DTypeLike,
    init: Initialiser = he_normal,
) -> tuple[Parameter, Parameter]:
    """The weight, as `init` draws it, and the bias, zero, of a layer at their start."""
    dtype = check.floating("dtype", dtype)
    weight = init(shape, seed=seed, stream=stream, dtype=dtype)
    return (
        Parameter(f"{name}_W", weight, decay=True),
        Parameter(f"{name}_b", np.zeros(shape[0], dtype), decay=False),
    )
