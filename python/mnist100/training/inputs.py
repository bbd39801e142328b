"""What a run feeds its network: which pairs, in what order, with what augmentation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mnist100 import functional
from mnist100._checks import Array
from mnist100.data import (
    PAIRING_SEED,
    Normalisation,
    PairSet,
    Splits,
    batches,
    pair,
    published_pairs,
)
from mnist100.evaluation import accuracy, inputs_of
from mnist100.models import Model
from mnist100.operations import Operations
from mnist100.training.recipes import Recipe
from mnist100.training.statistics import STATISTICS_PAIRS, plain_statistics

TRAIN_SUBSET = 10_000  # training pairs on which train accuracy is measured

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


class Inputs(Protocol):
    """What the training loop asks of the data."""

    steps: int  # in an epoch

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield an epoch's batches but for the first `skip`: inputs and labels, int64."""

    def statistics(self, model: Model) -> AbstractContextManager[None]:
        """Let a model normalise by the statistics of training data without augmentation for a while."""

    def accuracies(self, model: Model) -> tuple[float, float | None]:
        """Measure on training data without augmentation, and on dev data if there are any; one view each."""


def augmentation(recipe: Recipe, epoch: int) -> dict[str, Any]:
    """Return an epoch's augmentation, as `mnist100.functional.input_batch` takes it."""
    if epoch > recipe.epochs - recipe.plain_epochs:
        return {}
    return {
        "rotate": math.radians(recipe.rotate_degrees),
        "scale": recipe.scale,
        "shear": recipe.shear,
        "translate": recipe.translate,
        "elastic": recipe.elastic,
        "shift": recipe.shift,
        "contrast": recipe.contrast,
        "brightness": recipe.brightness,
    }


class TrainingInputs:
    """The pairs of a run and its batches.

    The dev pairs, the pairs for train accuracy and the training pairs of ``"fixed"`` pairing come
    from the published pairing seed, so that runs with different seeds are measured alike.

    Parameters
    ----------
    splits
        The data; the test data are not looked at.
    recipe
        Batch size, pairing, normalisation and augmentation. Finished pairs stay as they are, also
        with ``"fresh"`` pairing.
    seed
        Of fresh pairings, of the order of the pairs and of the augmentation.
    repeats
        How many permutations the digits of each split are paired in.
    ops
        The functions of a backend that makes the batches.
    """

    def __init__(
        self,
        splits: Splits,
        recipe: Recipe,
        seed: int,
        repeats: int,
        ops: Operations = functional,
    ) -> None:
        self._ops = ops
        self._table = splits.train
        self._recipe = recipe
        self._seed = seed
        self._repeats = repeats
        self._fixed = published_pairs(splits.train, repeats=repeats)
        # A permutation uses every digit equally often, so these fit every other pairing too.
        self.normalisation = Normalisation.fit(
            self._fixed, std_floor=recipe.std_floor, clip=recipe.clip
        )
        rows = functional.permutation(len(self._fixed), seed=PAIRING_SEED)[:TRAIN_SUBSET]
        self.subset = self._fixed.take(rows)
        self.dev = None if splits.dev is None else published_pairs(splits.dev, repeats=repeats)
        self.steps = math.ceil(len(self._fixed) / recipe.batch_size)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield an epoch's batches: inputs float32 (B, 1, 28, 56) and labels int64 (B,).

        A batch does not depend on those before it; `skip` leaves out as many of them.
        """
        pairs = self._pairs(epoch)
        labels = pairs.labels
        size = self._recipe.batch_size
        order = batches(len(pairs), size, seed=self._seed, step=epoch)
        for rows in itertools.islice(order, skip, None):
            x = self._ops.input_batch(
                pairs.digits.images,
                pairs.pairs,
                rows,
                self.normalisation.mean,
                self.normalisation.std,
                clip=self.normalisation.clip,
                **augmentation(self._recipe, epoch),
                seed=self._seed,
                step=epoch,
            )
            yield x, labels[rows]

    def statistics(self, model: Model) -> AbstractContextManager[None]:
        """Let a model normalise by the statistics of a fixed subset of the training pairs for a while."""
        return plain_statistics(model, lambda: self.plain(model))

    def plain(self, model: Model) -> Iterator[Array]:
        """Yield batches of a fixed subset of the training pairs."""
        rows = np.arange(min(STATISTICS_PAIRS, len(self.subset)))
        return (x for _, x in inputs_of(model, self.subset, rows))

    def accuracies(self, model: Model) -> tuple[float, float | None]:
        """Measure on a fixed subset of the training pairs, and on the dev pairs."""
        with model.one_view():
            train = accuracy(model, self.subset)
            return train, None if self.dev is None else accuracy(model, self.dev)

    def _pairs(self, epoch: int) -> PairSet:
        if self._recipe.pairing == "fixed" or isinstance(self._table, PairSet):
            return self._fixed
        return pair(self._table, seed=self._seed, step=epoch, repeats=self._repeats)
