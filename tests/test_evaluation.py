"""Counting, intervals and the hardest classes, with a model whose answers are known."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mnist100.calibration import BINS, calibrate
from mnist100.data import DigitSet, Normalisation, PairSet
from mnist100.evaluation import (
    Answers,
    accuracy,
    answer,
    evaluate,
    predictions,
    summarise,
    wilson_interval,
)
from mnist100.layers import Flatten
from mnist100.models import Model


class Reader(Model):
    """Reads the label that the test wrote into the image's corners."""

    def __init__(self, wrong: set[int] | None = None) -> None:
        super().__init__("reader", [Flatten()])
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
    result = evaluate(Reader(), pairs)
    assert (result.correct, result.total, result.accuracy) == (201, 201, 1.0)
    assert result.interval == wilson_interval(201, 201)
    assert [one.total for one in result.per_class] == [2] * 7 + [5] + [2] * 91 + [0]


def test_classes_are_counted_apart_and_the_hardest_come_first(pairs: PairSet) -> None:
    result = evaluate(Reader(wrong={7, 42}), pairs)
    assert result.correct == 201 - 5 - 2
    assert [one.label for one in result.hardest(3)] == [7, 42, 0]
    assert (result.per_class[7].correct, result.per_class[7].total) == (0, 5)
    assert result.per_class[42].accuracy == 0.0
    assert result.per_class[43].accuracy == 1.0
    assert len(result.hardest(1000)) == 99  # a class with no pair is neither hard nor easy


def test_an_absent_class_has_no_accuracy(pairs: PairSet) -> None:
    assert evaluate(Reader(), pairs).per_class[99].accuracy is None


def test_the_result_is_ready_for_json(pairs: PairSet) -> None:
    result = evaluate(Reader(wrong={7}), pairs)
    value: dict[str, Any] = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert value["accuracy"] == pytest.approx(196 / 201)
    assert value["interval"] == list(result.interval)
    assert value["per_class"][7] == {
        "label": 7,
        "accuracy": 0.0,
        "interval": list(wilson_interval(0, 5)),
        "correct": 0,
        "total": 5,
    }
    assert [one["label"] for one in value["left"]] == list(range(10))
    assert value["right"][7]["correct"] == value["right"][7]["total"] - 5
    assert value["calibration"]["ece"] == result.calibration.error
    assert len(value["calibration"]["bins"]) == BINS
    assert value["per_class"][99]["interval"] is None
    assert value["per_class"][99]["accuracy"] is None


def test_digits_are_counted_on_either_side(pairs: PairSet) -> None:
    # 42 is taken for 43, 59 for 60: the ones are wrong twice, the tens once; two pairs of each.
    result = evaluate(Reader(wrong={42, 59}), pairs)
    lefts = {one.label: one.total - one.correct for one in result.left}
    rights = {one.label: one.total - one.correct for one in result.right}
    assert lefts == dict.fromkeys(range(10), 0) | {5: 2}
    assert rights == dict.fromkeys(range(10), 0) | {2: 2, 9: 2}
    assert sum(one.total for one in result.left) == sum(one.total for one in result.right) == 201
    assert result.left[5].interval == wilson_interval(18, 20)


def test_answers_know_what_was_taken_for_what(pairs: PairSet) -> None:
    answers = answer(Reader(wrong={42, 59}), pairs)
    expected = np.bincount(answers.labels, minlength=100)
    confusion = answers.confusion()
    assert (confusion[42, 43], confusion[42, 42], confusion[59, 60]) == (2, 0, 2)
    np.testing.assert_array_equal(confusion.sum(axis=1), expected)
    # One logit of 1 above ninety-nine zeros.
    assert answers.confidence == pytest.approx(math.e / (math.e + 99))


def test_the_worst_mistakes_are_the_surest() -> None:
    confidence = np.array([0.9, 0.5, 0.8, 0.8, 1.0], np.float32)
    labels = np.array([1, 2, 3, 4, 5])
    answers = Answers(labels, np.array([0, 0, 0, 0, 5]), confidence)
    assert answers.worst(3).tolist() == [0, 2, 3]
    assert answers.worst(99).tolist() == [0, 2, 3, 1]
    assert Answers(labels, labels, confidence).worst(3).tolist() == []


def test_calibration_is_the_published_sum() -> None:
    # Bins of a fifteenth: 0.95 and 1 share the last, (14/15, 1]; 0.2 = 3/15 closes the third.
    confidence = np.array([0.95, 1.0, 0.2, 0.1])
    hits = np.array([True, False, True, False])
    result = calibrate(confidence, hits)
    assert result.error == pytest.approx((abs(1 - 1.95) + abs(1 - 0.2) + abs(0 - 0.1)) / 4)
    assert result.confidence == pytest.approx(2.25 / 4)
    filled = {i: one.count for i, one in enumerate(result.bins) if one.count}
    assert filled == {1: 1, 2: 1, 14: 2}
    assert result.bins[14].confidence == pytest.approx(0.975)
    assert result.bins[14].accuracy == 0.5
    assert result.bins[0].accuracy is None


def test_calibration_agrees_with_a_plain_loop() -> None:
    generator = np.random.default_rng(1)
    confidence = generator.random(5000).astype(np.float32)
    confidence[:2] = (0, 1)
    hits = generator.random(5000) < confidence**2
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        inside |= (confidence == 0) & (i == 0)
        if inside.any():
            expected += inside.mean() * abs(hits[inside].mean() - confidence[inside].mean())
    assert calibrate(confidence, hits).error == pytest.approx(expected, rel=1e-5)


def test_a_perfectly_calibrated_model_has_no_error() -> None:
    confidence = np.repeat([0.25, 0.75], 8)
    hits = np.tile([True, False, False, False, True, True, True, False], 2)[
        [*range(4)] * 2 + [*range(4, 8)] * 2
    ]
    assert calibrate(confidence, hits).error == 0


@pytest.mark.parametrize("confidence", [[], [1.5], [-0.1], [math.nan]])
def test_what_are_not_probabilities_are_refused(confidence: list[float]) -> None:
    with pytest.raises(ValueError, match="confidence: wants"):
        calibrate(np.array(confidence), np.ones(len(confidence), bool))


def test_a_summary_counts_answers() -> None:
    labels = np.array([0, 12, 99])
    result = summarise(Answers(labels, labels, np.ones(3, np.float32)))
    assert (result.correct, result.total, result.calibration.error) == (3, 3, 0)


def test_accuracy_of_some_rows(pairs: PairSet) -> None:
    model = Reader(wrong={7})
    assert accuracy(model, pairs) == pytest.approx(196 / 201)
    assert accuracy(model, pairs, np.array([7, 8, 9, 10])) == 0.75
    assert accuracy(model, pairs, np.array([7])) == 0.0


def test_large_sets_are_predicted_in_batches_and_in_order(pairs: PairSet) -> None:
    rows = np.tile(np.arange(201), 10)
    reader = Reader()
    assert np.array_equal(predictions(reader, pairs, rows), pairs.labels[rows])
    assert sum(reader.batches) == 2010
    assert max(reader.batches) <= 1024


def test_nothing_to_measure_is_an_error(pairs: PairSet) -> None:
    with pytest.raises(ValueError, match="pairs: got none"):
        accuracy(Reader(), pairs, np.empty(0, np.int64))
    with pytest.raises(ValueError, match="n ≥ 1"):
        evaluate(Reader(), PairSet(pairs.digits, np.empty((0, 2), np.int32)))


def test_a_model_without_normalisation_is_an_error(pairs: PairSet) -> None:
    reader = Reader()
    reader.normalisation = None
    with pytest.raises(ValueError, match="no normalisation"):
        evaluate(reader, pairs)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # Four digits each, worked out from the formula, at both ends and in between.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_to_four_digits(k: int, n: int, low: float, high: float) -> None:
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
