"""Training on the rows of an array: standardised features, or images of two digits that are deformed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import StandardScaler

from mnist100 import functional
from mnist100.data import batches
from mnist100.data.normalisation import IMAGE_SHAPE
from mnist100.data.pairs import sides
from mnist100.models import Model
from mnist100.training.inputs import TRAIN_SUBSET, Batch, augmentation
from mnist100.training.recipes import Recipe
from mnist100.training.statistics import STATISTICS_PAIRS, plain_statistics

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Standardisation:
    """How features become what a network sees: ``(X - mean) / std``, then the clip.

    Attributes
    ----------
    mean, std : float64 arrays, shape (features,)
        Of the training data; the deviations with their floor applied.
    clip : float
        Bound on a standardised feature; 0 for none.
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    clip: float

    @classmethod
    def fit(cls, X: Array, *, std_floor: float, clip: float) -> Standardisation:
        """Measure the rows of an array.

        Parameters
        ----------
        X : numeric array, shape (n, features)
        std_floor : float
            Least deviation, as a part of the distance between the least and the largest value of all:
            what hardly varies must not swamp the rest once it does, and no unit changes the outcome.
        clip : float
            Stored as it is.
        """
        scaler = StandardScaler()
        for start in range(0, len(X), _ROWS_AT_ONCE):  # it makes a copy in float64
            scaler.partial_fit(X[start : start + _ROWS_AT_ONCE])
        span = float(X.max()) - float(X.min())
        std = np.maximum(np.sqrt(scaler.var_), std_floor * span)
        return cls(scaler.mean_, np.where(std > 0, std, 1.0), clip)

    def __call__(self, X: Array) -> npt.NDArray[np.float32]:
        """Standardise rows."""
        x = X.astype(np.result_type(X.dtype, np.float32))  # float64 only where X needs it
        x -= self.mean.astype(x.dtype)
        x /= self.std.astype(x.dtype)
        if self.clip:
            np.clip(x, -self.clip, self.clip, out=x)
        return x.astype(np.float32, copy=False)


def logits_of(
    model: Model, standardise: Standardisation, X: Array
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield a network's logits (·, classes) for the rows of an array, some rows at a time."""
    for start in range(0, len(X), _ROWS_AT_ONCE):
        rows = standardise(X[start : start + _ROWS_AT_ONCE])
        yield model(rows.reshape(-1, 1, *model.image_shape))


class ArrayInputs:
    """The rows of an array as the training loop wants them.

    Parameters
    ----------
    X, labels
        What to train on: numeric (n, features), the pixels of an image in order if they are one; and
        int64 (n,).
    dev
        The same to choose on, or None.
    standardise
        How features become inputs.
    recipe
        Batch size and, if `deform`, augmentation.
    seed
        Of the order of the rows and of the augmentation.
    image_shape
        Of the network's images.
    deform
        Whether to augment by the recipe; rows then are pictures of two digits, whole numbers from 0 to
        255.
    """

    def __init__(
        self,
        X: Array,
        labels: Labels,
        dev: tuple[Array, Labels] | None,
        *,
        standardise: Standardisation,
        recipe: Recipe,
        seed: int,
        image_shape: tuple[int, int],
        deform: bool,
    ) -> None:
        self._X = X
        self._labels = labels
        self._dev = dev
        self._standardise = standardise
        self._batch_size = recipe.batch_size
        self._seed = seed
        self._image_shape = image_shape
        self._subset = functional.permutation(len(X), seed=seed)[:TRAIN_SUBSET]
        self._deformed = _Deformed(X, standardise, recipe, seed) if deform else None
        self.steps = math.ceil(len(X) / recipe.batch_size)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield an epoch's batches: inputs float32 (B, 1, height, width) and labels int64 (B,)."""
        order = batches(len(self._X), self._batch_size, seed=self._seed, step=epoch)
        for rows in itertools.islice(order, skip, None):
            if self._deformed is not None:
                x = self._deformed.batch(rows, epoch)
            else:
                x = self._standardise(self._X[rows]).reshape(-1, 1, *self._image_shape)
            yield x, self._labels[rows]

    def statistics(self, model: Model) -> AbstractContextManager[None]:
        """Let a model normalise by the statistics of a fixed subset of the training rows for a while."""
        return plain_statistics(model, lambda: self.plain(model))

    def plain(self, model: Model) -> Iterator[Array]:
        """Yield batches of a fixed subset of the training rows."""
        for start in range(0, min(STATISTICS_PAIRS, len(self._subset)), _ROWS_AT_ONCE):
            rows = self._subset[start : start + _ROWS_AT_ONCE]
            yield self._standardise(self._X[rows]).reshape(-1, 1, *self._image_shape)

    def accuracies(self, model: Model) -> tuple[float, float | None]:
        """Measure on a fixed subset of the training rows, and on the dev rows."""
        train = self._accuracy(model, self._X[self._subset], self._labels[self._subset])
        return train, None if self._dev is None else self._accuracy(model, *self._dev)

    def _accuracy(self, model: Model, X: Array, labels: Labels) -> float:
        found = [logits.argmax(axis=1) for logits in logits_of(model, self._standardise, X)]
        return float(np.mean(np.concatenate(found) == labels))


class _Deformed:
    """Batches of pictures of two digits, each digit deformed."""

    def __init__(self, X: Array, standardise: Standardisation, recipe: Recipe, seed: int) -> None:
        self._digits = sides(X.astype(np.uint8).reshape(-1, *IMAGE_SHAPE))
        self._pairs = np.arange(2 * len(X), dtype=np.int32).reshape(-1, 2)
        # The kernel scales pixels to [0, 1] first.
        self._mean, self._std = (
            (values / 255).astype(np.float32).reshape(IMAGE_SHAPE)
            for values in (standardise.mean, standardise.std)
        )
        self._recipe = recipe
        self._clip = standardise.clip
        self._seed = seed

    def batch(self, rows: Labels, epoch: int) -> npt.NDArray[np.float32]:
        return functional.input_batch(
            self._digits,
            self._pairs,
            rows,
            self._mean,
            self._std,
            clip=self._clip,
            **augmentation(self._recipe, epoch),
            seed=self._seed,
            step=epoch,
        )
