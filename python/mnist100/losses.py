"""What training minimises."""

from __future__ import annotations

from . import functional as F  # noqa: N812
from ._checks import Array
from .operations import Operations


class SoftmaxCrossEntropy:
    """Mean over the batch of -log softmax(logits)[label].

    Calling it returns the loss and its gradient with respect to the logits (n, classes).
    """

    def __init__(self, ops: Operations = F) -> None:
        self.ops = ops

    def __call__(self, logits: Array, labels: Array) -> tuple[float, Array]:
        return self.ops.softmax_cross_entropy(logits, labels)
