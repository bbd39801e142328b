"""Softmax and its cross-entropy."""

from __future__ import annotations

import numpy as np

from .. import _checks as check
from .. import _core
from .._checks import Array


def softmax(x: Array) -> Array:
    """exp(x) / Σ exp(x) over the last axis of x (n, classes)."""
    return _core.softmax(_logits("x", x))


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """Mean over the batch of -log softmax(logits)[label], and its gradient.

    Parameters
    ----------
    logits : (n, classes), n at least 1
    labels : (n,) integers in [0, classes)

    Returns
    -------
    loss : float
    dlogits : (n, classes), (softmax - onehot) / n
    """
    logits = _logits("logits", logits)
    if len(logits) == 0:
        raise check.fail("logits", check.describe(logits), "at least one row")
    labels = check.integers("labels", labels, np.int64, 1)
    if len(labels) != len(logits):
        raise check.fail("labels", f"{len(labels)} labels", f"{len(logits)}, one a row of logits")
    return _core.softmax_cross_entropy(logits, labels)


def _logits(name: str, x: Array) -> Array:
    x = check.array(name, x, None, 2)
    if x.shape[1] == 0:
        raise check.fail(name, check.describe(x), "at least one class")
    return x
