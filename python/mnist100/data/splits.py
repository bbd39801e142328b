"""Development data, taken from the training data: digits before they are paired, where there are any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnist100 import _checks, functional
from mnist100.data.pairs import Table

if TYPE_CHECKING:
    from mnist100.data.sources import Source

SPLIT_SEED = 20100
"""Seed of every split. It never changes, so that accuracies on dev can be compared."""


@dataclass(frozen=True, eq=False)
class Splits:
    """Data to train on, to choose on (None if there are none) and to report on."""

    train: Table
    dev: Table | None
    test: Table


def split(source: Source, dev_size: int | None = None) -> Splits:
    """Take ``dev_size`` digits, or finished pairs, from a source's training data.

    The draw depends on `SPLIT_SEED` and the number of training items alone. A digit is in one split
    only: pairing comes later, so what dev shows has never been seen on either side. Of finished
    pairs nobody knows which share a digit; they can only be split by pair.

    Parameters
    ----------
    source : Source
    dev_size : int or None
        Number of digits or pairs for dev; 0 keeps them all for training; None is
        ``source.default_dev_size``.

    Raises
    ------
    ValueError
        If ``dev_size`` is negative or leaves nothing to train on.
    """
    size = source.default_dev_size if dev_size is None else dev_size
    count = len(source.train)
    if not _checks.integer("dev_size", size, 0) < count:
        items = "pairs" if source.is_paired else "digits"
        raise _checks.fail(
            "dev_size",
            size,
            f"0 to {count - 1}: {source.name} has {count} training {items}, and at least one must be "
            "left to train on",
        )
    if size == 0:
        return Splits(source.train, None, source.test)
    dev, train = divide(count, size)
    return Splits(source.train.take(train), source.train.take(dev), source.test)


def divide(count: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ``size`` of ``count`` rows with the published seed; return them and the rest, in order."""
    order = functional.permutation(count, seed=SPLIT_SEED)
    return np.sort(order[:size]), np.sort(order[size:])
