"""Per-pixel standardisation of pairs, measured on the training pairs and kept with the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist100 import _checks
from mnist100.data.pairs import PairSet, check_array

IMAGE_SHAPE = (28, 56)
_ROWS_AT_ONCE = 512  # of 784 float64: 3 MB, which stay in a cache


@dataclass(frozen=True, eq=False)
class Normalisation:
    """How raw pixels become what the network sees: ``(pixel / 255 - mean) / std``, then the clip.

    Attributes
    ----------
    mean : float32 array, shape (28, 56)
        Mean of every pixel over the training pairs, pixels scaled to [0, 1].
    std : float32 array, shape (28, 56)
        Standard deviation of every pixel (population form), with its floor already applied.
    clip : float
        Standardised pixels are limited to [-clip, clip], in training and in inference; 0 for none.

    Raises
    ------
    TypeError
        If an array is not float32.
    ValueError
        If a shape is wrong, a value is not finite, ``std`` has a value that is not above 0, or
        ``clip`` is negative.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    clip: float

    def __post_init__(self) -> None:
        check_array("mean", self.mean, np.float32, IMAGE_SHAPE)
        check_array("std", self.std, np.float32, IMAGE_SHAPE)
        if not np.isfinite(self.mean).all():
            raise _checks.fail("mean", "a value that is not finite", "finite values")
        if not (np.isfinite(self.std).all() and (self.std > 0).all()):
            raise _checks.fail("std", "a value not finite or not above 0", "finite ones above 0")
        _checks.real("clip", self.clip, 0.0)

    @classmethod
    def fit(cls, pairs: PairSet, *, std_floor: float, clip: float) -> Normalisation:
        """Measure a set of pairs, exactly: every sum is a whole number, so order does not matter.

        Parameters
        ----------
        pairs : PairSet
            At least one pair.
        std_floor : float
            Least standard deviation of a pixel, above 0, pixels scaled to [0, 1]. Some pixels
            never vary in training; without a floor one of them, once lit, would swamp the rest.
        clip : float
            Stored as it is; 0 for none.

        Raises
        ------
        ValueError
            If there are no pairs or an argument is out of range.
        """
        if _checks.real("std_floor", std_floor, 0.0) == 0:
            raise _checks.fail("std_floor", std_floor, "a number above 0")
        if len(pairs) == 0:
            raise _checks.fail("pairs", "none", "at least one pair to measure")
        mean, std = _moments(pairs)
        floored = np.maximum(std, std_floor)
        return cls(mean.astype(np.float32), floored.astype(np.float32), clip)


def _moments(pairs: PairSet) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation (28, 56) of the pixels of pairs, from how often each digit is used on a side.

    Gathering the pairs would read each digit once a use and need the memory of them all.
    """
    digits = pairs.digits
    uses = np.stack([np.bincount(side, minlength=len(digits)) for side in pairs.pairs.T])
    total = np.zeros((2, 28 * 28))
    squares = np.zeros((2, 28 * 28))
    block = np.empty((_ROWS_AT_ONCE, 28 * 28))
    for start in range(0, len(digits), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        images = digits.images[rows].reshape(-1, 28 * 28)
        pixels = block[: len(images)]
        pixels[...] = images
        # Exact in float64: the sums are whole numbers below 2^31 pairs · 255² < 2^53.
        weights = uses[:, rows].astype(np.float64)
        total += weights @ pixels
        squares += weights @ np.square(pixels, out=pixels)
    # M·Σx² and (Σx)² outgrow 64 bits and nearly cancel, so this difference is taken in Python
    # integers, which do neither.
    n = len(pairs)
    sums = [(int(a), int(b)) for a, b in zip(total.flat, squares.flat, strict=True)]
    mean = np.array([a / (255 * n) for a, _ in sums])
    variance = np.array([(n * b - a * a) / (255 * n) ** 2 for a, b in sums])
    return _side_by_side(mean), _side_by_side(np.sqrt(variance))


def _side_by_side(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2 · 784) -> (28, 56)"""
    return np.concatenate(list(values.reshape(2, 28, 28)), axis=1)
