"""Development digits, taken from the training digits before anything is paired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mnist100 import _checks, functional
from mnist100.data.pairs import DigitSet

if TYPE_CHECKING:
    from mnist100.data.sources import Source

SPLIT_SEED = 20100
"""Seed of every split. It never changes, so that accuracies on dev can be compared."""


@dataclass(frozen=True, eq=False)
class Splits:
    """Digits to train on, to choose on (None if there are none) and to report on."""

    train: DigitSet
    dev: DigitSet | None
    test: DigitSet


def split(source: Source, dev_size: int | None = None) -> Splits:
    """Take ``dev_size`` digits from a source's training digits.

    The draw depends on `SPLIT_SEED` and the number of training digits alone. A digit is in one
    split only: pairing comes later, so what dev shows has never been seen on either side.

    Parameters
    ----------
    source : Source
    dev_size : int or None
        Number of digits for dev; 0 keeps them all for training; None is
        ``source.default_dev_size``.

    Raises
    ------
    ValueError
        If ``dev_size`` is negative or leaves no digit to train on.
    """
    size = source.default_dev_size if dev_size is None else dev_size
    count = len(source.train)
    if not _checks.integer("dev_size", size, 0) < count:
        raise _checks.fail(
            "dev_size",
            size,
            f"0 to {count - 1}: {source.name} has {count} training digits, and at least one must be "
            "left to train on",
        )
    if size == 0:
        return Splits(source.train, None, source.test)
    dev, train = divide(source.train, size)
    return Splits(train, dev, source.test)


def divide(digits: DigitSet, size: int) -> tuple[DigitSet, DigitSet]:
    """Draw ``size`` digits with the published seed; return them and the rest, in stored order."""
    order = functional.permutation(len(digits), seed=SPLIT_SEED)
    return digits.take(np.sort(order[:size])), digits.take(np.sort(order[size:]))
