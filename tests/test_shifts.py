"""How accuracy falls when images move."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mnist100 import models, plots
from mnist100.cli.main import main
from mnist100.data import DigitSet, Normalisation, PairSet
from mnist100.modelfile import save_model
from mnist100.models import Model
from mnist100.shifts import ShiftAccuracies, shift_accuracies
from mnist100.views import shift_images, shifted_views
from support import Array


@pytest.mark.parametrize(
    ("down", "right"), [(0, 0), (1, 0), (0, -2), (-3, 4), (4, 0), (0, 5), (-9, 9)]
)
def test_shift_images(down: int, right: int) -> None:
    images = np.arange(1, 41, dtype=np.uint8).reshape(2, 4, 5)
    expected = np.zeros_like(images)
    for row in range(4):
        for column in range(5):
            if 0 <= row + down < 4 and 0 <= column + right < 5:
                expected[:, row + down, column + right] = images[:, row, column]
    np.testing.assert_array_equal(shift_images(images, down, right), expected)


def test_shifted_views() -> None:
    images = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3)
    views = np.concatenate(list(shifted_views(images, 1)))
    assert len(views) == 9
    np.testing.assert_array_equal(views[0], [[5, 6, 0], [8, 9, 0], [0, 0, 0]])  # up and left
    np.testing.assert_array_equal(views[4], images[0])
    np.testing.assert_array_equal(views[5], [[0, 1, 2], [0, 4, 5], [0, 7, 8]])  # to the right
    assert [view.tolist() for view in shifted_views(images, 0)] == [images.tolist()]


class Place(Model):
    """Answers with the column of the brightest pixel, whatever was learnt."""

    def predict(self, images: Array) -> Array:
        columns: Array = images.max(axis=1).argmax(axis=1)
        return columns


@pytest.fixture
def pairs() -> PairSet:
    """One lit pixel, in the column that the label names: 2 and 3 on the left."""
    images = np.zeros((3, 28, 28), np.uint8)
    images[0, 5, 2] = images[1, 5, 3] = 255
    digits = DigitSet(images, np.array([0, 0, 2], np.uint8))
    return PairSet(digits, np.array([[0, 2], [0, 2], [1, 2]], np.int32))


def test_accuracies(pairs: PairSet) -> None:
    model = Place("cnn", list(models.cnn().net.layers))
    found = shift_accuracies(model, pairs, 2)
    # Every label is 2: two of three are right where they are, one after a step to the left.
    assert found.across == {-2: 0.0, -1: 1 / 3, 0: 2 / 3, 1: 0.0, 2: 0.0}
    assert found.down == dict.fromkeys(range(-2, 3), 2 / 3)
    with pytest.raises(ValueError, match=r"^pairs: got none"):
        shift_accuracies(model, pairs.take(np.arange(0)))
    with pytest.raises(ValueError, match=r"^reach: got -1"):
        shift_accuracies(model, pairs, -1)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ones = np.ones((28, 56), np.float32)
    paths = []
    for name, make in (("a", models.cnn), ("b", models.mlp)):
        model = make(seed=1)
        model.normalisation = Normalisation(0 * ones, ones, 0.0)
        save_model(model, tmp_path / f"{name}.npz")
        paths.append(str(tmp_path / f"{name}.npz"))
    out = tmp_path / "shifts.png"
    line = ["shifts", *paths, "--dataset", "digits", "--reach", "1", "--out", str(out), "--json"]
    assert main(line) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["accuracy"]) == ["a", "b"]
    for one in told["accuracy"].values():
        assert list(one["across"]) == list(one["down"]) == ["-1", "0", "1"]
        assert one["across"]["0"] == one["down"]["0"]
    assert out.read_bytes().startswith(b"\x89PNG")
    assert main(line) == 1
    assert "exists already" in capsys.readouterr().err


def test_the_picture_shows_every_model() -> None:
    one = ShiftAccuracies({-1: 0.5, 0: 0.9, 1: 0.6}, {-1: 0.4, 0: 0.9, 1: 0.3})
    figure = plots.shift_curves({"x": one, "y": one}, "mnist")
    for axes, axis in zip(figure.axes, (one.across, one.down), strict=True):
        assert [line.get_label() for line in axes.lines] == ["x", "y"]
        for line in axes.lines:
            assert list(np.asarray(line.get_ydata())) == list(axis.values())
