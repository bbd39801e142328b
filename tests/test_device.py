"""Training in a GPU's memory against training on the CPU: the same draws, and sums that differ by rounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist100 import _core, models
from mnist100.cli.main import main
from mnist100.data import DigitSet, Splits, published_pairs
from mnist100.device import layer_specs
from mnist100.layers import MaxPool2d
from mnist100.modelfile import load_model
from mnist100.models import Model
from mnist100.training import EpochReport, FitResult, Recipe, TrainingError, fit, load_recipe
from mnist100.training.backends import Cuda, Native
from mnist100.training.checkpoint import load_checkpoint
from mnist100.training.device import DeviceInputs
from runs import easy_splits, write_idx
from support import draws, skip_without_gpu
from test_training import make_digits, same, weights

skip_without_gpu(__name__)

# The engine's own digits of a second repeat, a last batch that is smaller, all kinds of draws, and an epoch
# without augmentation.
CHANGES: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 24,
    "learning_rate": 2e-3,
    "final_div_factor": 10.0,
    "reg_lambda": 0.05,
    "weight_decay": 3.0,
    "dropout": 0.3,
    "ema_decay": 0.3,
    "plain_epochs": 1,
    "elastic": 1.0,
    "shift": 1,
    "contrast": 0.1,
    "brightness": 0.1,
    "channels": "4,5-8",
}


STEP = CHANGES["learning_rate"]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(make_digits(30, 1), make_digits(20, 2), make_digits(10, 3))


def recipe_of(architecture: str, **changes: Any) -> Recipe:
    return load_recipe("default").replace(model=architecture, **{**CHANGES, **changes})


def train(splits: Splits, recipe: Recipe, backend: Native, **more: Any) -> tuple[Model, FitResult]:
    model = recipe.network(7)
    return model, fit(model, splits, recipe, seed=7, repeats=2, backend=backend, **more)


def assert_near(model: Model, other: Model) -> None:
    """As a whole, and one element off by a step: Adam makes one of rounding errors, where a gradient is no more."""
    for tensor, wanted in zip(model.tensors(), other.tensors(), strict=True):
        apart = np.linalg.norm(tensor.value - wanted.value)
        assert apart <= 2e-3 * np.linalg.norm(wanted.value) + STEP, tensor.name


def assert_agree(one: tuple[Model, FitResult], other: tuple[Model, FitResult]) -> None:
    for ours, theirs in zip(one[1].history, other[1].history, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=2e-4)
        assert ours.learning_rate == theirs.learning_rate
        assert ours.train_acc == pytest.approx(theirs.train_acc, abs=0.02)
        assert ours.dev_acc == pytest.approx(theirs.dev_acc, abs=0.03)
    if one[1].best_epoch == other[1].best_epoch:
        assert_near(one[0], other[0])


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_a_run_agrees_with_the_cpu(architecture: str, splits: Splits) -> None:
    recipe = recipe_of(architecture)
    assert_agree(train(splits, recipe, Cuda()), train(splits, recipe, Native()))


@pytest.mark.parametrize(
    "changes",
    [
        {"pairing": "fixed", "schedule": "constant"},
        {"ema_decay": 0.0, "reg_lambda": 0.0, "weight_decay": 0.0, "dropout": 0.0},
        {"batch_size": 1000, "clip": 0.0},
    ],
    ids=["fixed", "plain", "one-batch"],
)
def test_other_recipes_agree_too(changes: dict[str, Any], splits: Splits) -> None:
    recipe = recipe_of("mlp", **changes)
    assert_agree(train(splits, recipe, Cuda()), train(splits, recipe, Native()))


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
@pytest.mark.parametrize(("precision", "near"), [("tf32", 1e-3), ("bf16", 1e-2)])
def test_tensor_cores_stay_near(
    architecture: str, precision: str, near: float, splits: Splits
) -> None:
    # One epoch of small steps: after larger ones, other roundings make pools choose other pixels.
    small = {"learning_rate": STEP / 10, "schedule": "constant"}
    recipe = recipe_of(architecture, epochs=1, plain_epochs=0, **small)
    (theirs,) = train(splits, recipe, Native())[1].history
    (ours,) = train(splits, recipe.replace(precision=precision), Cuda())[1].history
    assert ours.loss == pytest.approx(theirs.loss, rel=near)


def test_finished_pairs_and_no_dev_set(splits: Splits) -> None:
    pairs = published_pairs(splits.train)
    finished = Splits(pairs, None, pairs)
    recipe = recipe_of("mlp", epochs=2)
    results = []
    for backend in (Cuda(), Native()):
        model = recipe.network(7)
        results.append((model, fit(model, finished, recipe, seed=7, backend=backend)))
    (ours, one), (theirs, other) = results
    assert [r.dev_acc for r in one.history] == [None, None]
    assert one.history[-1].loss == pytest.approx(other.history[-1].loss, rel=2e-4)
    assert_near(ours, theirs)


def test_the_same_bits_from_run_to_run(splits: Splits) -> None:
    recipe = recipe_of("siamese", epochs=2)
    first, second = (train(splits, recipe, Cuda()) for _ in range(2))
    assert same(weights(first[0]), weights(second[0]))
    assert [r.loss for r in first[1].history] == [r.loss for r in second[1].history]


class StopError(Exception):
    pass


def stop(report: EpochReport) -> None:
    raise StopError


@pytest.mark.parametrize("first", [Cuda, Native])
@pytest.mark.parametrize("second", [Cuda, Native])
def test_checkpoints_move_between_devices(
    first: type[Native], second: type[Native], splits: Splits, tmp_path: Path
) -> None:
    recipe = recipe_of("siamese", epochs=2)
    with pytest.raises(StopError):
        train(splits, recipe, first(), out=tmp_path, on_epoch=stop)
    resumed = train(
        splits, recipe, second(), out=tmp_path, resume=load_checkpoint(tmp_path / "last.npz")
    )
    whole = train(splits, recipe, second())
    assert_agree(resumed, whole)
    if first is second:
        assert same(weights(resumed[0]), weights(whole[0]))
    assert same(weights(load_model(tmp_path / "model.npz")), weights(resumed[0]))


def test_what_explodes_is_told(splits: Splits) -> None:
    recipe = recipe_of("mlp", schedule="constant", learning_rate=1e30)
    with pytest.raises(TrainingError, match="in epoch 1, step 3 of 3"):
        train(splits, recipe, Cuda())


def test_layers_that_the_gpu_has_not() -> None:
    with pytest.raises(TypeError, match="layers: got MaxPool2d, wants one that the GPU has"):
        layer_specs((MaxPool2d(2),))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "no logits|does not end with logits"),
        ([_core.LayerSpec("linear", size=100)], None),
        ([_core.LayerSpec("conv_block", size=4, kernel=(3, 3))], "a border is not half the kernel"),
        ([_core.LayerSpec("pair_logits")], "only scores of halves are paired"),
        ([_core.LayerSpec("dropout", p=0.5)], "does not end with logits"),
        ([_core.LayerSpec("linear", size=100, p=1.0)], "out of range"),
        ([_core.LayerSpec("halves"), _core.LayerSpec("halves")], "only whole images have halves"),
    ],
)
def test_layers_that_do_not_fit(layers: list[Any], message: str | None, splits: Splits) -> None:
    inputs = DeviceInputs(recipe_of("mlp").network(1), splits, recipe_of("mlp"), 1, 1)
    arguments = inputs._training(recipe_of("mlp"), 1, 1), *(np.ones((28, 56), np.float32),) * 2
    if message is None:
        engine = _core.Engine(layers, *arguments)
        assert engine.read(_core.Values.WEIGHTS).shape == (100 * 28 * 56 + 100,)
        return
    with pytest.raises(ValueError, match=message):
        _core.Engine(layers, *arguments)


def test_nothing_learns_before_a_normalisation(splits: Splits) -> None:
    recipe, digits = recipe_of("mlp"), splits.train
    assert isinstance(digits, DigitSet)
    arguments = DeviceInputs(recipe.network(1), splits, recipe, 1, 1)._training(recipe, 1, 1)
    layers = [
        _core.LayerSpec("halves"),
        _core.LayerSpec("batch_norm"),
        _core.LayerSpec("linear", size=10),
        _core.LayerSpec("pair_logits"),
    ]
    engine = _core.Engine(layers, arguments, *(np.ones((28, 56), np.float32),) * 2)
    rows = np.arange(len(digits), dtype=np.int32)
    engine.add_pairs(digits.images, digits.labels, np.stack([rows, rows], 1))
    before = engine.read(_core.Values.WEIGHTS)
    loss = engine.train_epoch(1, 0, 0, 0.0, False)
    assert 0 < loss < 100 * len(digits)
    assert not np.array_equal(engine.read(_core.Values.WEIGHTS), before)


def test_the_engine_refuses_what_it_has_not(splits: Splits) -> None:
    inputs = DeviceInputs(recipe_of("mlp").network(1), splits, recipe_of("mlp"), 1, 1)
    engine = inputs.engine
    images, labels = np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8)
    with pytest.raises(ValueError, match="pairs: got the index 2, wants 0 to 1"):
        engine.add_pairs(images, labels, np.array([[0, 2]], np.int32))
    with pytest.raises(ValueError, match="a label is no digit"):
        engine.add_pairs(images, labels + np.uint8(10), np.array([[0, 1]], np.int32))
    with pytest.raises(ValueError, match="a step has no rate"):
        engine.train_epoch(9, 0, 1000, 0.0, True)
    with pytest.raises(ValueError, match="rows that there are not"):
        engine.statistics(0, 29, 2)
    with pytest.raises(IndexError):
        engine.count_correct(9)
    with pytest.raises(ValueError, match="shape"):
        engine.write(_core.Values.ADAM_M, np.zeros(3, np.float32))


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_logits_agree_with_the_cpu(architecture: str) -> None:
    model = recipe_of(architecture).network(3)
    for tensor in model.net.buffers:
        tensor.value[...] = np.abs(draws(*tensor.value.shape)) + 0.5
    x = draws(300, 1, 28, 56)  # more than the engine takes at once
    expected = model(x)
    Cuda().place(model)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-4)
    model.parameters()[-1].value[...] += 1
    assert not np.allclose(model(x), expected)
    assert model(x[:0]).shape == (0, 100)


def test_the_command_line_trains_and_evaluates_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_idx(tmp_path / "data", easy_splits())
    run = str(tmp_path / "run")
    data = ["--dataset", str(tmp_path / "data")]
    options = ["--model", "mlp", "--epochs", "2", "--batch-size", "32", "--device", "cuda"]
    assert main(["train", *data, "--out", run, *options]) == 0
    assert "native backend on cuda" in capsys.readouterr().out
    accuracies = []
    for device in ("cuda", "cpu"):
        assert main(["evaluate", run, *data, "--device", device, "--json"]) == 0
        accuracies.append(json.loads(capsys.readouterr().out)["accuracy"])
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.02)
    assert main(["train", *data, "--out", run, "--resume", "--device", "cpu"]) == 2
    assert "was started with 'cuda'" in capsys.readouterr().err


def test_more_memory_than_a_gpu_has(splits: Splits) -> None:
    recipe = recipe_of("mlp")
    arguments = DeviceInputs(recipe.network(1), splits, recipe, 1, 1)._training(recipe, 1, 1)
    layers = [_core.LayerSpec("linear", size=10**10)]
    with pytest.raises(MemoryError, match=r"unable to allocate .* of the GPU's memory"):
        _core.Engine(layers, arguments, *(np.ones((28, 56), np.float32),) * 2)
