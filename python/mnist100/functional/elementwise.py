"""ReLU and dropout."""

from __future__ import annotations

import numpy as np

from .. import _checks as check
from .. import _core
from .._checks import Array


def relu(x: Array) -> Array:
    """max(x, 0), of any shape."""
    return _core.relu(check.array("x", x))


def relu_backward(dy: Array, y: Array) -> Array:
    """dy where y > 0, else 0; y is what `relu` returned."""
    y = check.array("y", y)
    return _core.relu_backward(check.shaped("dy", dy, y.shape, y.dtype), y)


def dropout(x: Array, p: float, *, seed: int, step: int) -> tuple[Array, Array]:
    """Inverted dropout: each element is 0 with probability p in [0, 1), else x / (1 - p).

    Which ones depends on (seed, step, position) alone: Philox-4x32-10, see ``csrc/philox.h``.

    Returns
    -------
    y : like x
    mask : uint8 like x, 1 where an element was kept
    """
    x = check.array("x", x)
    return _core.dropout(
        x, check.probability("p", p), check.word("seed", seed), check.word("step", step)
    )


def dropout_backward(dy: Array, mask: Array, p: float) -> Array:
    """Gradient of `dropout`."""
    dy = check.array("dy", dy)
    wants = f"the uint8 mask of shape {dy.shape}"
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8:
        raise check.fail_type("mask", check.describe(mask), wants)
    if mask.shape != dy.shape:
        raise check.fail("mask", check.describe(mask), wants)
    return _core.dropout_backward(dy, check.compact(mask), check.probability("p", p))
