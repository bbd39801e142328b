"""What a run feeds its network: which pairs, in what order, with what augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist100 import functional
from mnist100.data import PAIRING_SEED, DigitSet, Normalisation, PairSet, Splits, batches, pair
from mnist100.training.recipes import Recipe

TRAIN_SUBSET = 10_000  # training pairs on which train accuracy is measured

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


class TrainingInputs:
    """The pairs of a run and its batches.

    The dev pairs, the pairs for train accuracy and the training pairs of ``"fixed"`` pairing come
    from the published pairing seed, so that runs with different seeds are measured alike.

    Parameters
    ----------
    splits
        The digits; the test digits are not looked at.
    recipe
        Batch size, pairing, normalisation and augmentation.
    seed
        Of fresh pairings, of the order of the pairs and of the augmentation.
    repeats
        How many permutations the digits of each split are paired in.
    """

    def __init__(self, splits: Splits, recipe: Recipe, seed: int, repeats: int) -> None:
        self._digits = splits.train
        self._recipe = recipe
        self._seed = seed
        self._repeats = repeats
        self._fixed = self._published_pairs(splits.train)
        # A permutation uses every digit equally often, so these fit every other pairing too.
        self.normalisation = Normalisation.fit(
            self._fixed, std_floor=recipe.std_floor, clip=recipe.clip
        )
        rows = functional.permutation(len(self._fixed), seed=PAIRING_SEED)[:TRAIN_SUBSET]
        self.subset = PairSet(splits.train, self._fixed.pairs[rows])
        self.dev = None if splits.dev is None else self._published_pairs(splits.dev)
        self.steps = math.ceil(len(self._fixed) / recipe.batch_size)
        self._augmentation: dict[str, Any] = {
            "rotate": math.radians(recipe.rotate_degrees),
            "scale": recipe.scale,
            "shear": recipe.shear,
            "translate": recipe.translate,
            "shift": recipe.shift,
            "contrast": recipe.contrast,
            "brightness": recipe.brightness,
        }

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield an epoch's batches: inputs float32 (B, 1, 28, 56) and labels int64 (B,)."""
        fresh = self._recipe.pairing == "fresh"
        pairs = self._fresh_pairs(epoch) if fresh else self._fixed
        labels = pairs.labels
        size = self._recipe.batch_size
        for rows in batches(len(pairs), size, seed=self._seed, step=epoch):
            x = functional.input_batch(
                pairs.digits.images,
                pairs.pairs,
                rows,
                self.normalisation.mean,
                self.normalisation.std,
                clip=self.normalisation.clip,
                **self._augmentation,
                seed=self._seed,
                step=epoch,
            )
            yield x, labels[rows]

    def _fresh_pairs(self, epoch: int) -> PairSet:
        return pair(self._digits, seed=self._seed, step=epoch, repeats=self._repeats)

    def _published_pairs(self, digits: DigitSet) -> PairSet:
        return pair(digits, seed=PAIRING_SEED, repeats=self._repeats)
