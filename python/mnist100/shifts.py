"""How well a model reads images that have moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mnist100 import _checks as check
from mnist100.data import PairSet
from mnist100.models import Model

_BATCH = 2048  # pairs shifted at a time: 3 MB


@dataclass(frozen=True)
class ShiftAccuracies:
    """Accuracy by shift, in pixels, of whole images: to the right and downwards where positive."""

    across: Mapping[int, float]
    down: Mapping[int, float]


def shift_images(images: npt.NDArray[np.uint8], down: int, right: int) -> npt.NDArray[np.uint8]:
    """Images (n, h, w) moved by whole pixels; what is vacated is 0, what leaves is lost."""
    moved = np.zeros_like(images)
    height, width = images.shape[1:]
    if abs(down) < height and abs(right) < width:
        to_rows, from_rows = _slices(down, height)
        to_columns, from_columns = _slices(right, width)
        moved[:, to_rows, to_columns] = images[:, from_rows, from_columns]
    return moved


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


def _slices(by: int, size: int) -> tuple[slice, slice]:
    """Where an axis goes to and where it comes from."""
    return slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))
