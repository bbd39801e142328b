"""Tiny runs for the tests of backends: digits that are easy to tell apart, and recipes without noise."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from mnist100 import functional, models
from mnist100.data import DigitSet, Splits
from mnist100.models import Model
from mnist100.training import FitResult, Recipe, fit, load_recipe


def easy_digits(count: int, seed: int) -> DigitSet:
    """Ten shapes, a lit square each at its own place, under noise."""
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = np.minimum(30 * np.abs(functional.normal((count, 28, 28), seed=seed)), 255)
    for image, label in zip(images, labels, strict=True):
        row, column = 4 + 12 * (label // 5), 2 + 5 * (label % 5)
        image[row : row + 8, column : column + 4] += 120
    return DigitSet(np.minimum(images, 255).astype(np.uint8), labels)


def easy_splits() -> Splits:
    """130 digits to train on, 40 to choose on, 40 to report on."""
    return Splits(easy_digits(130, 1), easy_digits(40, 2), easy_digits(40, 3))


def tiny_recipe(**changes: Any) -> Recipe:
    """The default recipe, augmentation and averaged weights included, for one epoch of three steps."""
    tiny = {"epochs": 1, "batch_size": 64, "learning_rate": 1e-3, "schedule": "constant"}
    return load_recipe("default").replace(**(tiny | changes))


def traced(recipe: Recipe, **options: Any) -> tuple[Model, FitResult, list[float]]:
    """A run with seed 7: its model, its result and the loss of every step."""
    trace: list[float] = []
    model = models.ARCHITECTURES[recipe.model](dropout=recipe.dropout, seed=7)
    result = fit(
        model,
        easy_splits(),
        recipe,
        seed=7,
        on_step=lambda report: trace.append(report.loss),
        **options,
    )
    return model, result, trace


def write_idx(folder: Path, splits: Splits) -> None:
    """The training and test digits as a folder of IDX files."""
    folder.mkdir()
    for name, digits in (("train", splits.train), ("t10k", splits.test)):
        assert isinstance(digits, DigitSet)
        count = len(digits)
        images = struct.pack(">iiii", 2051, count, 28, 28) + digits.images.tobytes()
        labels = struct.pack(">ii", 2049, count) + digits.labels.tobytes()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(labels)
