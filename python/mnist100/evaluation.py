"""How good a model is on a set of pairs: accuracy, its interval, and the classes it finds hard."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist100 import functional
from mnist100.data import PairSet
from mnist100.models import Model

CLASSES = 100

_BATCH = 512  # pairs predicted at once: large enough for the kernels, small enough for the caches

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassResult:
    """Outcome for one class: its label (0–99), correct predictions, and pairs in the set."""

    label: int
    correct: int
    total: int

    @property
    def accuracy(self) -> float | None:
        """Fraction correct; None if the set has no pair of this class."""
        return self.correct / self.total if self.total else None


@dataclass(frozen=True)
class Evaluation:
    """Outcome of a model on a set of pairs.

    Parameters
    ----------
    correct, total
        Pairs predicted correctly, and pairs in the set.
    interval
        The 95 % Wilson interval of the accuracy, two fractions.
    per_class
        One entry for each of the 100 labels, in order.
    """

    correct: int
    total: int
    interval: tuple[float, float]
    per_class: tuple[ClassResult, ...]

    @property
    def accuracy(self) -> float:
        """Fraction correct."""
        return self.correct / self.total

    def hardest(self, k: int) -> tuple[ClassResult, ...]:
        """Return the `k` classes of least accuracy, hardest first; equals by label."""
        present = (result for result in self.per_class if result.total)
        return tuple(sorted(present, key=lambda result: result.correct / result.total)[:k])

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, ready for JSON; accuracies are fractions."""
        return {
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "correct": self.correct,
            "total": self.total,
            "per_class": [
                {
                    "label": result.label,
                    "accuracy": result.accuracy,
                    "correct": result.correct,
                    "total": result.total,
                }
                for result in self.per_class
            ],
        }


def evaluate(model: Model, pairs: PairSet) -> Evaluation:
    """Predict every pair and count.

    Parameters
    ----------
    model
        With its normalisation.
    pairs
        At least one pair.

    Raises
    ------
    ValueError
        If the model has no normalisation, or there are no pairs.
    """
    labels = pairs.labels
    hits = predictions(model, pairs) == labels
    totals = np.bincount(labels, minlength=CLASSES)
    corrects = np.bincount(labels[hits], minlength=CLASSES)
    correct = int(hits.sum())
    return Evaluation(
        correct=correct,
        total=len(pairs),
        interval=wilson_interval(correct, len(pairs)),
        per_class=tuple(
            ClassResult(label, int(corrects[label]), int(totals[label])) for label in range(CLASSES)
        ),
    )


def accuracy(model: Model, pairs: PairSet, rows: Rows | None = None) -> float:
    """Return the fraction of the pairs, or of some rows of them, that a model gets right.

    Raises
    ------
    ValueError
        If the model has no normalisation, or there are no pairs.
    """
    labels = pairs.labels if rows is None else pairs.labels[rows]
    if not len(labels):
        raise ValueError("pairs: got none, wants at least one")
    return float(np.mean(predictions(model, pairs, rows) == labels))


def predictions(model: Model, pairs: PairSet, rows: Rows | None = None) -> Rows:
    """Return the labels, int64 (n,), that a model gives the pairs, or some rows of them.

    Inputs are standardised and clipped as in training, with no augmentation.

    Raises
    ------
    ValueError
        If the model has no normalisation.
    """
    normalisation = model.normalisation
    if normalisation is None:
        raise ValueError("model: has no normalisation; train it, or load a trained one")
    if rows is None:
        rows = np.arange(len(pairs), dtype=np.int64)
    labels = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), _BATCH):
        batch = slice(start, start + _BATCH)
        x = functional.input_batch(
            pairs.digits.images,
            pairs.pairs,
            rows[batch],
            normalisation.mean,
            normalisation.std,
            clip=normalisation.clip,
        )
        labels[batch] = model(x).argmax(axis=1)
    return labels


def wilson_interval(k: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the score interval of a proportion of `k` in `n`.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    Unlike the normal approximation it stays within [0, 1] and is honest near its ends.

    Parameters
    ----------
    k, n
        Successes and trials, 0 ≤ k ≤ n and n ≥ 1.
    z
        Quantile of the normal distribution; the default gives 95 %.

    Raises
    ------
    ValueError
        If `k` and `n` are not counts of that kind.
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"k, n: got {k}, {n}, wants 0 ≤ k ≤ n and n ≥ 1")
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding must not leave the ends a hair outside of what the formula allows.
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return low, high
