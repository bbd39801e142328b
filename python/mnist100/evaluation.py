"""How good a model is on a set of pairs: accuracy, intervals, classes, digits and calibration."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist100.calibration import Calibration, calibrate
from mnist100.data import PairSet
from mnist100.models import Model

CLASSES = 100
DIGITS = 10

_BATCH = 256  # pairs predicted at once, as many as in a training step: evaluation reuses its memory

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassResult:
    """Outcome for one class, or one digit on one side: label, correct predictions, and pairs in the set."""

    label: int
    correct: int
    total: int

    @property
    def accuracy(self) -> float | None:
        """Fraction correct; None if the set has no pair of this class."""
        return self.correct / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % Wilson interval of the accuracy; None if there is none."""
        return wilson_interval(self.correct, self.total) if self.total else None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, ready for JSON."""
        interval = self.interval
        return {
            "label": self.label,
            "accuracy": self.accuracy,
            "interval": None if interval is None else list(interval),
            "correct": self.correct,
            "total": self.total,
        }


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of pairs.

    Parameters
    ----------
    labels, predicted
        The right labels and the model's, int64 (n,).
    confidence
        The probability that the model gives its own label, float32 (n,).
    """

    labels: Rows
    predicted: Rows
    confidence: npt.NDArray[np.float32]

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        """Whether each label is right, bool (n,)."""
        result: npt.NDArray[np.bool_] = self.predicted == self.labels
        return result

    def confusion(self) -> npt.NDArray[np.int64]:
        """Return how often row's class was taken for column's: int64 (100, 100)."""
        places = CLASSES * self.labels + self.predicted
        return np.bincount(places, minlength=CLASSES**2).reshape(CLASSES, CLASSES)

    def worst(self, k: int) -> Rows:
        """Return the rows of at most `k` wrong answers, the surest first; equals by row."""
        wrong = np.flatnonzero(~self.hits)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:k]


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
    left, right
        One entry for each digit, in order: how often it was read correctly on that side.
    calibration
        Confidence against accuracy.
    """

    correct: int
    total: int
    interval: tuple[float, float]
    per_class: tuple[ClassResult, ...]
    left: tuple[ClassResult, ...]
    right: tuple[ClassResult, ...]
    calibration: Calibration

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
            "per_class": [result.as_dict() for result in self.per_class],
            "left": [result.as_dict() for result in self.left],
            "right": [result.as_dict() for result in self.right],
            "calibration": self.calibration.as_dict(),
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
    return summarise(answer(model, pairs))


def answer(model: Model, pairs: PairSet) -> Answers:
    """Ask a model for the label of every pair.

    Raises
    ------
    ValueError
        If the model has no normalisation.
    """
    predicted = np.empty(len(pairs), np.int64)
    confidence = np.empty(len(pairs), np.float32)
    for batch, logits in _logits(model, pairs, _all_rows(pairs)):
        labels = logits.argmax(axis=1)
        predicted[batch] = labels
        chosen = np.take_along_axis(model.ops.softmax(logits), labels[:, np.newaxis], axis=1)
        confidence[batch] = chosen[:, 0]
    return Answers(pairs.labels, predicted, confidence)


def summarise(answers: Answers) -> Evaluation:
    """Count what `answers` come to.

    Raises
    ------
    ValueError
        If there are none.
    """
    labels, predicted = answers.labels, answers.predicted
    correct = int(answers.hits.sum())
    return Evaluation(
        correct=correct,
        total=len(labels),
        interval=wilson_interval(correct, len(labels)),
        per_class=_count(labels, predicted, CLASSES),
        left=_count(labels // DIGITS, predicted // DIGITS, DIGITS),
        right=_count(labels % DIGITS, predicted % DIGITS, DIGITS),
        calibration=calibrate(answers.confidence, answers.hits),
    )


def _count(labels: Rows, predicted: Rows, classes: int) -> tuple[ClassResult, ...]:
    totals = np.bincount(labels, minlength=classes)
    corrects = np.bincount(labels[predicted == labels], minlength=classes)
    return tuple(
        ClassResult(label, int(corrects[label]), int(totals[label])) for label in range(classes)
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
    rows = _all_rows(pairs) if rows is None else rows
    labels = np.empty(len(rows), dtype=np.int64)
    for batch, logits in _logits(model, pairs, rows):
        labels[batch] = logits.argmax(axis=1)
    return labels


def _all_rows(pairs: PairSet) -> Rows:
    return np.arange(len(pairs), dtype=np.int64)


def _logits(
    model: Model, pairs: PairSet, rows: Rows
) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """Yield the logits (n, 100) of some rows of pairs, batch by batch."""
    _check_normalisation(model)
    for batch in _batches(rows):
        yield batch, model.logits_of(pairs.digits.images, pairs.pairs, rows[batch])


def inputs_of(
    model: Model, pairs: PairSet, rows: Rows
) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """Yield some rows of pairs as inputs (n, 1, 28, 56), batch by batch, and which rows they are.

    Raises
    ------
    ValueError
        If the model has no normalisation.
    """
    _check_normalisation(model)
    for batch in _batches(rows):
        yield batch, model.inputs_of(pairs.digits.images, pairs.pairs, rows[batch])


def _batches(rows: Rows) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, len(rows), _BATCH))


def _check_normalisation(model: Model) -> None:
    if model.normalisation is None:
        raise ValueError("model: has no normalisation; train it, or load a trained one")


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
