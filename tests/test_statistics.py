"""Batch normalisation's statistics for evaluation: of plain data, under the weights that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from mnist100 import functional as F  # noqa: N812
from mnist100 import models
from mnist100._checks import Array
from mnist100.batch_norm import BatchNormReLU
from mnist100.data import Splits
from mnist100.layers import to_nchw
from mnist100.modelfile import load_model
from mnist100.models import Model
from mnist100.reference import numpy_backend
from mnist100.training import fit, load_recipe
from mnist100.training.inputs import TrainingInputs
from mnist100.training.statistics import STATISTICS_PAIRS, plain_statistics
from support import draws
from test_training import make_digits


def network() -> Model:
    return models.siamese(channels=[[8, 8], [16]], dropout=0.0, seed=3)


def norms(model: Model) -> list[BatchNormReLU]:
    return [layer for layer in model.net.layers if isinstance(layer, BatchNormReLU)]


def buffers(model: Model) -> list[Array]:
    return [buffer.value.copy() for buffer in model.net.buffers]


def convolved(model: Model, x: Array) -> Array:
    """What the first batch normalisation reads, by plain NumPy."""
    w = next(one.value for one in model.parameters() if one.name == "conv1_1_W")
    return numpy_backend.conv2d(F.split_halves(x), w, None, padding=1)


def test_statistics_are_of_the_batches() -> None:
    model = network()
    batches = [draws(n, 1, 28, 56) for n in (5, 1, 12)]
    values = convolved(model, np.concatenate(batches)).astype(np.float64)
    first = norms(model)[0]
    with plain_statistics(model, lambda: batches):
        np.testing.assert_allclose(
            first.mean.value, values.mean(axis=(0, 2, 3)), rtol=1e-5, atol=1e-6
        )
        unbiased = values.var(axis=(0, 2, 3), ddof=0) * (18 * 2 * 784 / (18 * 2 * 784 - 1))
        np.testing.assert_allclose(first.var.value, unbiased, rtol=1e-5)


def test_a_batch_is_evaluated_as_it_is_trained_on() -> None:
    model = network()
    x = draws(40, 1, 28, 56)
    trained = to_nchw(model.net.forward(x, 1)[0])
    with plain_statistics(model, lambda: [x]):
        # The unbiased variance is larger by one part in 40 * 2 * 7 * 7 at most.
        np.testing.assert_allclose(model(x), trained, rtol=2e-3, atol=2e-3)
    assert not np.allclose(model(x), trained, rtol=2e-3, atol=2e-3)


def test_running_statistics_come_back() -> None:
    model = network()
    before = buffers(model)

    def refused() -> NoReturn:
        with plain_statistics(model, lambda: [draws(3, 1, 28, 56)]):
            assert all(
                not np.array_equal(one.value, old)
                for one, old in zip(model.net.buffers, before, strict=True)
            )
            raise KeyError

    with pytest.raises(KeyError):
        refused()
    for value, old in zip(buffers(model), before, strict=True):
        np.testing.assert_array_equal(value, old)


@pytest.mark.parametrize("architecture", ["cnn", "mlp"])
def test_without_batch_normalisation_nothing_is_asked_for(architecture: str) -> None:
    def none_wanted() -> Iterator[Array]:
        raise AssertionError

    with plain_statistics(models.ARCHITECTURES[architecture](seed=1), none_wanted):
        pass


def test_numpy_finds_the_same() -> None:
    model = network()
    x = draws(4, 1, 28, 56)
    with plain_statistics(model, lambda: [x]):
        ours = buffers(model)
    model.use(numpy_backend)
    with plain_statistics(model, lambda: [x]):
        for value, expected in zip(buffers(model), ours, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_what_is_kept_has_those_of_plain_training_pairs(ema_decay: float, tmp_path: Path) -> None:
    splits = Splits(make_digits(130, 1), make_digits(60, 2), make_digits(60, 3))
    recipe = load_recipe("fast").replace(epochs=1, batch_size=32, ema_decay=ema_decay)
    model = models.siamese(dropout=0.0, seed=5)
    fit(model, splits, recipe, seed=5, out=tmp_path)
    kept = load_model(tmp_path / "model.npz")
    inputs = TrainingInputs(splits, recipe, 5, 1)
    assert sum(len(x) for x in inputs.plain(kept)) == 130 < STATISTICS_PAIRS
    with plain_statistics(model, lambda: inputs.plain(kept)):
        for ours, theirs in zip(model.tensors(), kept.tensors(), strict=True):
            np.testing.assert_array_equal(ours.value, theirs.value)
