"""Counting, intervals and the hardest classes, with a model whose answers are known."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from mnist100.data import DigitSet, Normalisation, PairSet
from mnist100.evaluation import accuracy, evaluate, predictions, wilson_interval
from mnist100.models import Model


class Reader:
    """A stand-in for a model: reads the label that the test wrote into the image's corners."""

    def __init__(self, wrong: set[int] | None = None) -> None:
        self.normalisation: Normalisation | None = Normalisation(
            mean=np.zeros((28, 56), np.float32), std=np.ones((28, 56), np.float32), clip=0.0
        )
        self.wrong = wrong or set()
        self.batches: list[int] = []

    def __call__(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.batches.append(len(x))
        written = np.rint(x * 255).astype(int)
        labels = written[:, 0, 0, 0] * 10 + written[:, 0, 0, 28]
        labels = np.where(np.isin(labels, list(self.wrong)), (labels + 1) % 100, labels)
        logits: npt.NDArray[np.float32] = np.eye(100, dtype=np.float32)[labels]
        return logits


def as_model(reader: Reader) -> Model:
    return cast(Model, reader)


@pytest.fixture
def pairs() -> PairSet:
    """Two pairs of every class except 99, of which there is none, and five of class 07."""
    labels = np.arange(10, dtype=np.uint8)
    images = np.zeros((10, 28, 28), np.uint8)
    images[:, 0, 0] = labels
    classes = np.array([*range(99), *range(99), 7, 7, 7], dtype=np.int32)
    table = np.stack([classes // 10, classes % 10], axis=1).astype(np.int32)
    return PairSet(DigitSet(images, labels), table)


def test_a_model_that_is_right_everywhere(pairs: PairSet) -> None:
    result = evaluate(as_model(Reader()), pairs)
    assert (result.correct, result.total, result.accuracy) == (201, 201, 1.0)
    assert result.interval == wilson_interval(201, 201)
    assert [one.total for one in result.per_class] == [2] * 7 + [5] + [2] * 91 + [0]


def test_classes_are_counted_apart_and_the_hardest_come_first(pairs: PairSet) -> None:
    result = evaluate(as_model(Reader(wrong={7, 42})), pairs)
    assert result.correct == 201 - 5 - 2
    assert [one.label for one in result.hardest(3)] == [7, 42, 0]
    assert (result.per_class[7].correct, result.per_class[7].total) == (0, 5)
    assert result.per_class[42].accuracy == 0.0
    assert result.per_class[43].accuracy == 1.0
    assert len(result.hardest(1000)) == 99  # a class with no pair is neither hard nor easy


def test_an_absent_class_has_no_accuracy(pairs: PairSet) -> None:
    assert evaluate(as_model(Reader()), pairs).per_class[99].accuracy is None


def test_the_result_is_ready_for_json(pairs: PairSet) -> None:
    result = evaluate(as_model(Reader(wrong={7})), pairs)
    value: dict[str, Any] = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert value["accuracy"] == pytest.approx(196 / 201)
    assert value["interval"] == list(result.interval)
    assert value["per_class"][7] == {"label": 7, "accuracy": 0.0, "correct": 0, "total": 5}
    assert value["per_class"][99]["accuracy"] is None


def test_accuracy_of_some_rows(pairs: PairSet) -> None:
    model = as_model(Reader(wrong={7}))
    assert accuracy(model, pairs) == pytest.approx(196 / 201)
    assert accuracy(model, pairs, np.array([7, 8, 9, 10])) == 0.75
    assert accuracy(model, pairs, np.array([7])) == 0.0


def test_large_sets_are_predicted_in_batches_and_in_order(pairs: PairSet) -> None:
    rows = np.tile(np.arange(201), 10)
    reader = Reader()
    assert np.array_equal(predictions(as_model(reader), pairs, rows), pairs.labels[rows])
    assert sum(reader.batches) == 2010
    assert max(reader.batches) <= 1024


def test_nothing_to_measure_is_an_error(pairs: PairSet) -> None:
    with pytest.raises(ValueError, match="pairs: got none"):
        accuracy(as_model(Reader()), pairs, np.empty(0, np.int64))
    with pytest.raises(ValueError, match="n ≥ 1"):
        evaluate(as_model(Reader()), PairSet(pairs.digits, np.empty((0, 2), np.int32)))


def test_a_model_without_normalisation_is_an_error(pairs: PairSet) -> None:
    reader = Reader()
    reader.normalisation = None
    with pytest.raises(ValueError, match="no normalisation"):
        evaluate(as_model(reader), pairs)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # Examples of R. G. Newcombe, "Two-sided confidence intervals for the single proportion" (1998).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_is_the_published_one(k: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(k, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("k", "n"), [(9788, 10000), (92, 102), (1, 2), (3, 7)])
def test_wilson_interval_ends_where_the_score_test_does(k: int, n: int) -> None:
    # The definition: those p for which |k/n - p| is at most z standard errors at that p.
    for p in wilson_interval(k, n):
        assert abs(k / n - p) == pytest.approx(1.959963984540054 * math.sqrt(p * (1 - p) / n))


def test_wilson_interval_ends_where_it_must() -> None:
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0
    low, high = wilson_interval(3, 7)
    assert wilson_interval(4, 7) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_what_are_not_counts(k: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got {k}, {n}"):
        wilson_interval(k, n)
