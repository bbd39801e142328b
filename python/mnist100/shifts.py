"""How well a model reads images that have moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mnist100 import _checks as check
from mnist100.data import PairSet
from mnist100.models import Model
from mnist100.views import shift_images

_BATCH = 2048  # pairs shifted at a time: 3 MB


@dataclass(frozen=True)
class ShiftAccuracies:
    """Accuracy by shift, in pixels, of whole images: to the right and downwards where positive."""

    across: Mapping[int, float]
    down: Mapping[int, float]


def shift_accuracies(model: Model, pairs: PairSet, reach: int = 4) -> ShiftAccuracies:
    """Measure a model on images shifted by -reach to reach pixels, across and then down.

    Raises
    ------
    ValueError
        If there are no pairs, the model has no normalisation, or `reach` is negative.
    """
    check.integer("reach", reach, 0)
    if not len(pairs):
        raise ValueError("pairs: got none, wants at least one")
    shifts = range(-reach, reach + 1)
    middle = _accuracy(model, pairs, 0, 0)
    return ShiftAccuracies(
        across={by: _accuracy(model, pairs, 0, by) if by else middle for by in shifts},
        down={by: _accuracy(model, pairs, by, 0) if by else middle for by in shifts},
    )


def _accuracy(model: Model, pairs: PairSet, down: int, right: int) -> float:
    hits = 0
    for start in range(0, len(pairs), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(pairs)))
        images = shift_images(pairs.images(rows), down, right)
        hits += int(np.count_nonzero(model.predict(images) == pairs.labels[rows]))
    return hits / len(pairs)
