"""Tables of digits and of pairs of digits: the form every data source is brought into."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mnist100 import _checks, functional

PAIRING_SEED = 2856
"""Seed of the published permutation pairing."""

DIGIT_SHAPE = (28, 28)
CLASSES = 100

_BALANCED_SEED = 42
_BALANCED_TRAIN = 500
_BALANCED_TEST = 100


@dataclass(frozen=True, eq=False)
class DigitSet:
    """A table of digits.

    Attributes
    ----------
    images : uint8 array, shape (N, 28, 28)
        0 is background, 255 is ink. Made C-contiguous if it is not.
    labels : uint8 array, shape (N,)
        0 to 9.

    Raises
    ------
    TypeError
        If an attribute is not a uint8 array.
    ValueError
        If a shape or a label is wrong.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        check_array("images", self.images, np.uint8, (None, *DIGIT_SHAPE))
        check_array("labels", self.labels, np.uint8, (len(self.images),))
        if self.labels.size and self.labels.max() > 9:
            raise _checks.fail("labels", self.labels.max(), "0 to 9")
        # The input kernel would otherwise copy the whole table for every batch.
        object.__setattr__(self, "images", np.ascontiguousarray(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.integer[Any]]) -> DigitSet:
        """Return a new table with the digits at ``rows``, in that order."""
        return DigitSet(self.images[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class PairSet:
    """Two-digit numbers, as pairs of rows in a table of digits.

    Attributes
    ----------
    digits : DigitSet
    pairs : int32 array, shape (M, 2)
        Row of the left digit (the tens) and of the right digit (the ones).

    Raises
    ------
    TypeError
        If ``pairs`` is not an int32 array.
    ValueError
        If ``pairs`` has another shape or points outside the digits.
    """

    digits: DigitSet
    pairs: NDArray[np.int32]

    def __post_init__(self) -> None:
        check_array("pairs", self.pairs, np.int32, (None, 2))
        if self.pairs.size and not (0 <= self.pairs.min() <= self.pairs.max() < len(self.digits)):
            rows = f"rows {self.pairs.min()} to {self.pairs.max()}"
            raise _checks.fail("pairs", rows, f"0 to {len(self.digits) - 1}, the rows of digits")
        object.__setattr__(self, "pairs", np.ascontiguousarray(self.pairs))

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class of each pair, 0 to 99: int64, shape (M,)."""
        sides = self.digits.labels[self.pairs].astype(np.int64)
        return 10 * sides[:, 0] + sides[:, 1]

    def images(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Return the pictures of the pairs at ``rows`` (m,): uint8, shape (m, 28, 56)."""
        chosen = self.pairs[rows]
        return np.concatenate([self.digits.images[chosen[:, side]] for side in (0, 1)], axis=2)

    def take(self, rows: NDArray[np.integer[Any]]) -> PairSet:
        """Return the pairs at ``rows``, in that order; they share their digits with this set."""
        return PairSet(self.digits, self.pairs[rows])


Table: TypeAlias = DigitSet | PairSet
"""What a source holds: digits, to be paired as one likes, or pairs that were finished elsewhere."""


def pair(digits: DigitSet, *, seed: int, step: int = 0, repeats: int = 1) -> PairSet:
    """Pair digits by permutation: each is once on the left and once on the right, a repeat.

    Parameters
    ----------
    digits : DigitSet
    seed : int
        `PAIRING_SEED` for the published pairs.
    step : int
        Which pairing of that seed, such as the epoch. Different steps share no permutation as
        long as ``repeats`` stays the same.
    repeats : int
        How many permutations to lay end to end, at least 1.

    Returns
    -------
    PairSet
        ``repeats * len(digits)`` pairs.

    Raises
    ------
    ValueError
        If ``repeats`` is less than 1.
    """
    _checks.integer("repeats", repeats, 1)
    count = len(digits)
    left = np.tile(np.arange(count), repeats)
    right = np.concatenate(
        [
            functional.permutation(count, seed=seed, step=step * repeats + repeat)
            for repeat in range(repeats)
        ]
    )
    return PairSet(digits, np.stack([left, right], axis=1).astype(np.int32))


def published_pairs(table: Table, *, repeats: int = 1) -> PairSet:
    """Return the pairs that every run measures on, whatever its seed.

    Parameters
    ----------
    table : DigitSet or PairSet
        Digits are paired by `PAIRING_SEED`; finished pairs are returned as they are.
    repeats : int
        How many permutations to lay end to end, at least 1; of digits only.
    """
    if isinstance(table, PairSet):
        return table
    return pair(table, seed=PAIRING_SEED, repeats=repeats)


def halves(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> PairSet:
    """Take finished pairs apart: digit 2i is the left half of pair i, digit 2i + 1 the right.

    Parameters
    ----------
    images : uint8 array, shape (M, 28, 56)
    labels : uint8 array, shape (M,)
        0 to 99.

    Raises
    ------
    TypeError
        If an argument is not a uint8 array.
    ValueError
        If a shape or a label is wrong.
    """
    check_array("images", images, np.uint8, (None, DIGIT_SHAPE[0], 2 * DIGIT_SHAPE[1]))
    check_array("labels", labels, np.uint8, (len(images),))
    if labels.size and labels.max() >= CLASSES:
        raise _checks.fail("labels", labels.max(), f"0 to {CLASSES - 1}")
    digits = DigitSet(sides(images), np.stack(np.divmod(labels, np.uint8(10)), axis=1).reshape(-1))
    return PairSet(digits, np.arange(len(digits), dtype=np.int32).reshape(-1, 2))


def sides(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut pictures of pairs (M, 28, 56) into digits (2M, 28, 28): left, right, left, right, …"""
    rows, columns = DIGIT_SHAPE
    return images.reshape(-1, rows, 2, columns).swapaxes(1, 2).reshape(-1, rows, columns)


def balanced(train: DigitSet, test: DigitSet) -> tuple[PairSet, PairSet]:
    """Draw up to 500 training and 100 test pairs of every class, 00 to 99 in order.

    The generator and the order of its draws are those of the NumPy script that this project grew
    from, so that the data files of that script can be reproduced byte for byte. Within a class,
    no digit is twice on the same side. A class gets fewer pairs if a digit of it is rarer.

    Parameters
    ----------
    train, test : DigitSet

    Returns
    -------
    train, test : PairSet
    """
    # The legacy generator's stream is frozen by NumPy's compatibility policy.
    generator = np.random.RandomState(_BALANCED_SEED)
    splits = ((train, _BALANCED_TRAIN), (test, _BALANCED_TEST))
    rows = [[np.flatnonzero(digits.labels == d) for d in range(10)] for digits, _ in splits]
    drawn: list[list[NDArray[np.int64]]] = [[], []]
    for label in range(CLASSES):
        for pairs, by_digit, (_, most) in zip(drawn, rows, splits, strict=True):
            tens, ones = by_digit[label // 10], by_digit[label % 10]
            n = min(most, len(tens), len(ones))
            left = generator.choice(tens, n, replace=False)
            right = generator.choice(ones, n, replace=False)
            pairs.append(np.stack([left, right], axis=1))
    train_pairs, test_pairs = (np.concatenate(pairs).astype(np.int32) for pairs in drawn)
    return PairSet(train, train_pairs), PairSet(test, test_pairs)


def check_array(
    name: str, value: object, dtype: type[np.generic], shape: tuple[int | None, ...]
) -> None:
    """Check an array's dtype and shape; a None in ``shape`` stands for any length.

    Raises
    ------
    TypeError
        If ``value`` is not an array of ``dtype``.
    ValueError
        If its shape is another one.
    """
    wanted = np.dtype(dtype)
    if not isinstance(value, np.ndarray) or value.dtype != wanted:
        raise _checks.fail_type(name, _checks.describe(value), f"a {wanted} array")
    fits = len(value.shape) == len(shape) and all(
        want in (None, length) for want, length in zip(shape, value.shape, strict=True)
    )
    if not fits:
        wish = ", ".join("N" if length is None else str(length) for length in shape)
        raise _checks.fail(name, f"shape {value.shape}", f"({wish})")
