"""Inputs that every library gets alike: draws, and batches of the embedded digits."""

from __future__ import annotations

from functools import cache

import numpy as np

from mnist100.data import DigitSet, Splits, load_source
from mnist100.models import Model, cnn
from mnist100.training.inputs import Batch, TrainingInputs
from mnist100.training.recipes import Recipe, load_recipe
from workloads import BATCH, Array

SEED = 0
STEP_BATCHES = 16  # enough that a few hundred steps do not learn them by heart


def draws(*shape: int, seed: int = SEED) -> Array:
    """Values from N(0, 1), float32."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def digits(count: int) -> DigitSet:
    """The embedded digits, repeated up to `count`: they need no network, and look like what is read."""
    table = load_source("digits").train
    assert isinstance(table, DigitSet)
    return table.take(np.arange(count) % len(table))


def recipe(**changes: object) -> Recipe:
    """The default recipe, with its augmentation and its averaged weights."""
    return load_recipe("default").replace(**changes)


def splits(pairs: int) -> Splits:
    """As many digits as an epoch has pairs; nothing is evaluated."""
    table = digits(pairs)
    return Splits(table, None, table)


@cache
def batches() -> list[Batch]:
    """Augmented, standardised batches of BATCH."""
    inputs = TrainingInputs(splits(STEP_BATCHES * BATCH), recipe(), SEED, 1)
    return list(inputs.batches(1))


def network(*, dropout: float) -> Model:
    """The network at its start values."""
    return cnn(dropout=dropout, seed=SEED)
