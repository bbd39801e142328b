"""One optimiser step."""

from __future__ import annotations

from .._checks import Array
from ..layers import to_nchw
from ..losses import SoftmaxCrossEntropy
from ..models import Model
from ..optim import Optimizer


def train_step(model: Model, optimizer: Optimizer, x: Array, labels: Array) -> float:
    """Forward, loss, backward, update.

    Parameters
    ----------
    x : float32 (n, 1, 28, 56), standardised
    labels : (n,) integers in [0, 100)

    Returns
    -------
    loss : mean cross-entropy plus λ/(2·n)·ΣW², both before the update
    """
    logits, caches = model.net.forward(model.check_input(x), optimizer.steps + 1)
    cross_entropy = SoftmaxCrossEntropy(model.ops)
    loss, dlogits = cross_entropy(to_nchw(logits), labels)
    loss += optimizer.reg_loss(len(x))
    for parameter in optimizer.parameters:
        parameter.drop_grad()  # its memory is what this step's gradients are written to
    model.net.backward(dlogits, caches, need_dx=False)
    optimizer.step(len(x))
    return loss
