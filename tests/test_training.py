"""The training loop: what it learns, keeps and reports."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import mnist100
from mnist100 import functional, models
from mnist100._config import config
from mnist100.data import DigitSet, Normalisation, Splits, published_pairs
from mnist100.evaluation import accuracy, answer
from mnist100.models import Model
from mnist100.training import (
    EpochReport,
    FitResult,
    Recipe,
    StepReport,
    TrainingError,
    fit,
    load_recipe,
    read_history,
    train_step,
    trainers,
)
from mnist100.training import inputs as training_inputs
from mnist100.training.inputs import TrainingInputs
from mnist100.training.schedule import one_cycle

Weights = list[npt.NDArray[Any]]

FILES = ["history.csv", "history.jsonl", "last.npz", "model.npz"]


def make_digits(count: int, seed: int) -> DigitSet:
    """Ten easy shapes, a lit square each at its own place, under noise."""
    labels = (np.arange(count) % 10).astype(np.uint8)
    noise = np.abs(functional.normal((count, 28, 28), seed=seed))
    images = np.minimum(30 * noise, 255)
    for image, label in zip(images, labels, strict=True):
        row, column = 4 + 12 * (label // 5), 2 + 5 * (label % 5)
        image[row : row + 8, column : column + 4] += 120
    return DigitSet(np.minimum(images, 255).astype(np.uint8), labels)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(make_digits(130, 1), make_digits(60, 2), make_digits(60, 3))


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("default").replace(model="mlp", epochs=3, batch_size=64)


def train(splits: Splits, recipe: Recipe, **options: Any) -> tuple[Model, FitResult]:
    seed = options.pop("seed", 7)
    model = models.ARCHITECTURES[recipe.model](dropout=recipe.dropout, seed=seed)
    return model, fit(model, splits, recipe, seed=seed, **options)


def weights(model: Model) -> Weights:
    return [tensor.value.copy() for tensor in model.tensors()]


def same(a: Weights, b: Weights) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Give the number of threads back after a test that changes it."""
    before = config()["threads"]
    yield
    mnist100.set_num_threads(before)


def script_accuracies(monkeypatch: pytest.MonkeyPatch, dev: list[float]) -> None:
    """Let the loop measure the given dev accuracies, and 0.5 on the training pairs."""
    values = iter([value for one in dev for value in (0.5, one)])
    monkeypatch.setattr(training_inputs, "accuracy", lambda *_: next(values))


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_training_learns(architecture: str, splits: Splits, recipe: Recipe) -> None:
    recipe = recipe.replace(
        model=architecture, epochs=6, ema_decay=0.0, schedule="constant", learning_rate=2e-3
    )
    _, result = train(splits, recipe, repeats=3)
    assert result.history[-1].loss < 0.7 * result.history[0].loss
    assert result.dev_accuracy is not None
    assert result.dev_accuracy > 0.5


@pytest.mark.parametrize("architecture", ["mlp", "siamese"])
def test_the_model_ends_as_the_best_that_was_saved(
    architecture: str, splits: Splits, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = recipe.replace(model=architecture)
    model, result = train(splits, recipe, out=tmp_path)
    saved = mnist100.load_model(tmp_path)
    assert same(weights(model), weights(saved))
    assert splits.dev is not None
    assert accuracy(saved, published_pairs(splits.dev)) == result.dev_accuracy
    assert result.dev_accuracy == max(record.dev_acc or 0 for record in result.history)
    assert saved.metadata["dev_accuracy"] == result.dev_accuracy
    assert saved.metadata["epoch"] == result.best_epoch
    assert saved.metadata["recipe"] == recipe.as_dict()
    assert saved.metadata["seed"] == 7
    assert saved.metadata["architecture"] == architecture
    assert saved.metadata["clip"] == 3.0


def test_epochs_are_measured_by_one_view_and_the_model_ends_with_its_shifts(
    splits: Splits, recipe: Recipe, tmp_path: Path
) -> None:
    _, plain = train(splits, recipe)
    model, result = train(splits, recipe.replace(test_shifts=2), out=tmp_path)
    assert [record.dev_acc for record in result.history] == [
        record.dev_acc for record in plain.history
    ]
    saved = mnist100.load_model(tmp_path)
    assert (model.test_shifts, saved.test_shifts) == (2, 2)
    assert splits.dev is not None
    pairs = published_pairs(splits.dev)
    with saved.one_view():
        assert accuracy(saved, pairs) == result.dev_accuracy
    confidence = answer(saved, pairs).confidence
    assert not np.array_equal(confidence, answer(train(splits, recipe)[0], pairs).confidence)
    np.testing.assert_allclose(
        confidence,
        saved.predict_proba(pairs.images(np.arange(len(pairs)))).max(axis=1),
        rtol=0,
        atol=1e-5,
    )


def test_the_best_epoch_is_kept_and_patience_ends_the_run(
    splits: Splits, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_accuracies(monkeypatch, [0.2, 0.6, 0.6004, 0.5, 0.4])
    recipe = recipe.replace(epochs=9, patience=3, min_delta=1e-3, ema_decay=0.0)
    by_epoch: list[Weights] = []
    best: list[bool] = []
    model = models.mlp(seed=7)

    def remember(report: EpochReport) -> None:
        by_epoch.append(weights(model))
        best.append(report.best)

    result = fit(model, splits, recipe, seed=7, out=tmp_path, on_epoch=remember)
    # The third epoch is the best, but does not count: patience goes on from the second.
    assert best == [True, True, True, False, False]
    assert (result.best_epoch, result.dev_accuracy, result.stopped_early) == (3, 0.6004, True)
    assert same(weights(model), by_epoch[2])
    assert same(weights(mnist100.load_model(tmp_path)), by_epoch[2])
    assert not same(by_epoch[2], by_epoch[4])


def test_history_is_on_disk_as_it_was_returned(
    splits: Splits, recipe: Recipe, tmp_path: Path
) -> None:
    _, result = train(splits, recipe, out=tmp_path)
    assert tuple(read_history(tmp_path / "history.csv")) == result.history
    assert [record.epoch for record in result.history] == [1, 2, 3]
    assert not result.stopped_early
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_steps_are_reported_and_add_up(splits: Splits, recipe: Recipe) -> None:
    steps: list[StepReport] = []
    _, result = train(splits, recipe, on_step=steps.append)
    assert [(report.epoch, report.step) for report in steps] == [
        (epoch, step) for epoch in (1, 2, 3) for step in (1, 2, 3)
    ]
    rates = [one_cycle(step, 9, recipe.learning_rate) for step in range(9)]
    assert [report.learning_rate for report in steps] == rates
    sizes = [64, 64, 2]
    first = sum(size * report.loss for size, report in zip(sizes, steps, strict=False)) / 130
    assert result.history[0].loss == pytest.approx(first)
    assert [record.learning_rate for record in result.history] == rates[2::3]


def test_the_test_set_is_not_looked_at(splits: Splits, recipe: Recipe) -> None:
    blind = dataclasses.replace(splits, test=None)  # type: ignore[arg-type]
    assert same(weights(train(blind, recipe)[0]), weights(train(splits, recipe)[0]))


@pytest.mark.usefixtures("two_threads")
def test_seeds_decide_and_threads_do_not(splits: Splits, recipe: Recipe) -> None:
    mnist100.set_num_threads(1)
    one = weights(train(splits, recipe)[0])
    mnist100.set_num_threads(3)
    assert same(one, weights(train(splits, recipe)[0]))
    assert not same(one, weights(train(splits, recipe, seed=8)[0]))


def test_averaged_weights_are_what_is_kept(splits: Splits, recipe: Recipe) -> None:
    recipe = recipe.replace(epochs=1, ema_decay=0.5)
    model = models.mlp(seed=7)
    expected = [value.astype(float) for value in weights(model)]
    updates = count(1)

    def follow(_: StepReport) -> None:
        t = next(updates)
        decay = min(0.5, (1 + t) / (10 + t))
        for average, value in zip(expected, weights(model), strict=True):
            average *= decay
            average += (1 - decay) * value

    fit(model, splits, recipe, seed=7, on_step=follow)
    for value, average in zip(weights(model), expected, strict=True):
        np.testing.assert_allclose(value, average, rtol=1e-5, atol=1e-7)


def test_without_a_dev_set_the_last_weights_are_kept(
    splits: Splits, recipe: Recipe, tmp_path: Path
) -> None:
    whole = dataclasses.replace(splits, dev=None)
    recipe = recipe.replace(patience=1)
    model, result = train(whole, recipe, out=tmp_path)
    assert (result.best_epoch, result.dev_accuracy, result.stopped_early) == (3, None, False)
    assert same(weights(model), weights(mnist100.load_model(tmp_path)))
    assert tuple(read_history(tmp_path / "history.csv")) == result.history


def test_a_loss_that_is_not_finite_stops_and_keeps_the_best(
    splits: Splits, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = train_step, count(1)

    def fail_at_the_fifth(*arguments: Any) -> float:
        loss = real(*arguments)
        return math.nan if next(calls) == 5 else loss

    monkeypatch.setattr(trainers, "train_step", fail_at_the_fifth)
    match = "the loss became nan in epoch 2, step 2 of 3, .* try a smaller learning rate"
    with pytest.raises(TrainingError, match=match):
        train(splits, recipe, out=tmp_path)
    assert len(read_history(tmp_path / "history.csv")) == 1
    assert mnist100.load_model(tmp_path).metadata["epoch"] == 1


def test_weights_that_explode_are_never_saved(
    splits: Splits, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = recipe.replace(schedule="constant", learning_rate=1e38, batch_size=1000, epochs=5)
    with pytest.raises(TrainingError, match=r"in epoch [12], step 1 of 1"):
        train(splits, recipe, out=tmp_path)
    for path in tmp_path.glob("model.npz"):
        assert all(np.isfinite(value).all() for value in weights(mnist100.load_model(path)))


def test_an_interruption_leaves_the_last_finished_epoch(
    splits: Splits, recipe: Recipe, tmp_path: Path
) -> None:
    def interrupt(report: StepReport) -> None:
        if (report.epoch, report.step) == (2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(splits, recipe, out=tmp_path, on_step=interrupt)
    assert [record.epoch for record in read_history(tmp_path / "history.csv")] == [1]
    assert mnist100.load_model(tmp_path).metadata["epoch"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def labels_of(inputs: TrainingInputs, epoch: int) -> list[int]:
    return sorted(int(label) for _, labels in inputs.batches(epoch) for label in labels)


def test_pairing_is_fresh_or_fixed(splits: Splits, recipe: Recipe) -> None:
    fixed = TrainingInputs(splits, recipe.replace(pairing="fixed"), 7, 2)
    published = published_pairs(splits.train, repeats=2)
    assert labels_of(fixed, 1) == labels_of(fixed, 2) == sorted(published.labels)
    fresh = TrainingInputs(splits, recipe, 7, 2)
    assert labels_of(fresh, 1) != labels_of(fresh, 2)
    assert len(labels_of(fresh, 1)) == 260


def test_finished_pairs_are_the_same_in_every_epoch(splits: Splits, recipe: Recipe) -> None:
    table, dev = published_pairs(splits.train), published_pairs(splits.test)
    inputs = TrainingInputs(Splits(table, dev, dev), recipe, 7, 1)
    assert labels_of(inputs, 1) == labels_of(inputs, 2) == sorted(table.labels)
    first, second = (next(inputs.batches(epoch))[1] for epoch in (1, 2))
    assert first.tolist() != second.tolist()
    assert inputs.dev is dev
    assert len(inputs.subset) == len(table)


def test_batches_are_what_the_recipe_asks_for(splits: Splits, recipe: Recipe) -> None:
    plain = recipe.replace(rotate_degrees=0, scale=0, shear=0, translate=0, pairing="fixed")
    inputs = TrainingInputs(splits, plain, 7, 1)
    pairs = published_pairs(splits.train)
    wanted = Normalisation.fit(pairs, std_floor=plain.std_floor, clip=plain.clip)
    standardised = (pairs.images(np.arange(130)) / 255 - wanted.mean) / wanted.std
    expected = np.clip(standardised, -3, 3)
    seen = np.concatenate([x[:, 0] for x, _ in inputs.batches(1)])
    order = np.lexsort(expected.reshape(130, -1).T[:5])
    order_seen = np.lexsort(seen.reshape(130, -1).T[:5])
    np.testing.assert_allclose(seen[order_seen], expected[order], atol=1e-4)


@pytest.mark.parametrize(
    "change",
    ["rotate_degrees", "scale", "shear", "translate", "elastic", "shift", "contrast", "brightness"],
)
def test_every_augmentation_reaches_the_inputs(change: str, splits: Splits, recipe: Recipe) -> None:
    none = dict.fromkeys(("rotate_degrees", "scale", "shear", "translate"), 0)
    plain = recipe.replace(**none)
    value: float = {"rotate_degrees": 20, "shift": 2, "translate": 2}.get(change, 0.3)
    before, _ = next(TrainingInputs(splits, plain, 7, 1).batches(1))
    after, _ = next(TrainingInputs(splits, plain.replace(**{change: value}), 7, 1).batches(1))
    assert not np.array_equal(before, after)


def test_the_last_epochs_are_plain(splits: Splits, recipe: Recipe) -> None:
    none = dict.fromkeys(("rotate_degrees", "scale", "shear", "translate"), 0)
    deformed = recipe.replace(epochs=4, shift=2, contrast=0.1)
    first, second, third, fourth = (
        [
            np.array_equal(x, plain)
            for (x, _), (plain, _) in zip(
                TrainingInputs(splits, deformed.replace(plain_epochs=2), 7, 1).batches(epoch),
                TrainingInputs(splits, recipe.replace(**none), 7, 1).batches(epoch),
                strict=True,
            )
        ]
        for epoch in (1, 2, 3, 4)
    )
    assert not any(first + second)
    assert all(third + fourth)
