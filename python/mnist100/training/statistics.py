"""Batch normalisation's statistics for evaluation.

The running ones of training are of deformed digits, and of weights that have changed since. What evaluates
and is kept takes those of plain training data under its own weights instead: Wu and Johnson, "Rethinking
'Batch' in BatchNorm" (2021), section 3, and, for the deformation, Touvron et al., "Fixing the train-test
resolution discrepancy" (2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from mnist100._checks import Array
from mnist100.batch_norm import BatchNormReLU
from mnist100.layers import Activation, Layer
from mnist100.models import Model

STATISTICS_PAIRS = (
    2048  # 4,096 digits of 7 x 7 pixels at the least: 200,000 values of every channel
)


@contextmanager
def plain_statistics(model: Model, batches: Callable[[], Iterable[Array]]) -> Iterator[None]:
    """Inside the `with` block, a model normalises by the statistics of `batches`.

    Every batch is normalised by its own on the way, and theirs are pooled. A model without batch
    normalisation does not ask for any.

    Parameters
    ----------
    model
        With the weights to evaluate.
    batches
        Returns inputs as the network takes them, at least one, without augmentation.
    """
    layers = model.net.layers
    places = [place for place, layer in enumerate(layers) if isinstance(layer, BatchNormReLU)]
    if not places:
        yield
        return
    running = [buffer.value.copy() for buffer in model.net.buffers]
    _take(layers[: places[-1] + 1], batches())
    try:
        yield
    finally:
        for buffer, value in zip(model.net.buffers, running, strict=True):
            buffer.value[...] = value


def _take(layers: Sequence[Layer], batches: Iterable[Array]) -> None:
    """Set the statistics of the layers that have some to those of the batches."""
    pooled = {layer: Pooled() for layer in layers if isinstance(layer, BatchNormReLU)}
    for batch in batches:
        x: Activation = batch
        for layer in layers:
            x, cache = layer.forward(x, 0)
            if isinstance(layer, BatchNormReLU):
                pooled[layer].add(*layer.batch_statistics(cache))
    for layer, found in pooled.items():
        layer.mean.value[...] = found.mean
        layer.var.value[...] = found.variance


class Pooled:
    """Mean and unbiased variance of all values of each channel, from those of batches."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: npt.NDArray[np.float64] = np.zeros(())
        self._squares: npt.NDArray[np.float64] = np.zeros(())

    def add(self, mean: Array, variance: Array, count: int) -> None:
        """Take in a batch: its mean, its biased variance, and how many values they are of."""
        centre = mean.astype(np.float64)
        self._count += count
        self._sum = self._sum + count * centre
        self._squares = self._squares + count * (variance.astype(np.float64) + centre**2)

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Of all batches so far: (c,)."""
        return self._sum / self._count

    @property
    def variance(self) -> npt.NDArray[np.float64]:
        """Of all batches so far, unbiased: (c,)."""
        with np.errstate(invalid="ignore"):  # of a network that has overflowed; the loss will tell
            biased = self._squares / self._count - self.mean**2
        return np.maximum(biased, 0.0) * (self._count / max(self._count - 1, 1))
