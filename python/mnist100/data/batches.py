"""The order in which an epoch sees its samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mnist100 import _checks, functional

# A loop may well pair and shuffle with the same seed and step. Without its own key the shuffle
# would then be the very permutation that paired the digits.
_SHUFFLE_KEY = 0x5F3759DF


def shuffle_seed(seed: int) -> int:
    """Return the seed of the permutations that `batches` shuffles with."""
    return seed ^ _SHUFFLE_KEY


def batches(n: int, batch_size: int, *, seed: int, step: int) -> Iterator[NDArray[np.int64]]:
    """Shuffle ``n`` samples and cut them into batches.

    Parameters
    ----------
    n : int
        Number of samples, at least 0.
    batch_size : int
        Samples in a batch, at least 1. The last batch holds what is left.
    seed, step : int
        Key of the shuffle, usually the run's seed and the epoch. Equal keys give equal orders.

    Returns
    -------
    iterator of int64 arrays, shape (batch_size,) or less for the last
        Together they hold every index from 0 to ``n - 1`` once.

    Raises
    ------
    TypeError
        If an argument is not an integer.
    ValueError
        If ``n`` is negative or ``batch_size`` is less than 1.
    """
    _checks.integer("n", n, 0)
    _checks.integer("batch_size", batch_size, 1)
    order = functional.permutation(n, seed=shuffle_seed(seed), step=step)
    return (order[start : start + batch_size] for start in range(0, n, batch_size))
