"""The live fraction: which share of the pooled outputs of a conv block are above zero.

Only there does a gradient pass, so the sparse backward does a quarter of this share of the dense work.
"""

from __future__ import annotations

import itertools

import inputs
from kernels import LEARNING_RATE
from mnist100 import functional as F  # noqa: N812
from mnist100.models import Model
from mnist100.optim import Adam
from mnist100.training.step import train_step


def _of(model: Model) -> list[float]:
    """Of the first and the second block, on a batch that is not trained on first."""
    x = inputs.batches()[-1][0]
    shares = []
    for layer in model.net.layers[:2]:
        weight, bias = (p.value for p in layer.parameters)
        x, _ = F.conv_block(x, weight, bias)
        shares.append(float((x > 0).mean()))
    return shares


def fractions(steps: int) -> dict[str, float]:
    """By block and moment: at He's start values, and after `steps` training steps."""
    model = inputs.network(dropout=0.4)
    found = dict(zip(("conv1, start", "conv2, start"), _of(model), strict=True))
    adam = Adam(model.parameters(), lr=LEARNING_RATE)
    for x, labels in itertools.islice(itertools.cycle(inputs.batches()), steps):
        train_step(model, adam, x, labels)
    names = (f"conv1, after {steps} steps", f"conv2, after {steps} steps")
    return found | dict(zip(names, _of(model), strict=True))
