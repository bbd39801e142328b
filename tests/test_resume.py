"""Runs that are stopped and go on: bit for bit what they would have been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import mnist100
from commands import mnist, signalled
from mnist100 import evaluation, models
from mnist100.cli import main
from mnist100.data import Splits
from mnist100.modelfile import ModelFileError
from mnist100.training import (
    EpochReport,
    FitResult,
    Recipe,
    StepReport,
    fit,
    keeper,
    load_recipe,
    read_history,
    run_folder,
)
from mnist100.training import inputs as training_inputs
from mnist100.training.backends import Numpy
from mnist100.training.checkpoint import CheckpointError, load_checkpoint
from mnist100.training.inputs import TrainingInputs
from mnist100.training.interrupt import HeldSignals, Interruption, hold_signals
from runs import easy_digits, easy_splits

TIMES = ("seconds", "images_per_second")


@pytest.fixture(scope="module")
def splits() -> Splits:
    return easy_splits()


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Three steps an epoch, the last one smaller."""
    return load_recipe("default").replace(model="mlp", epochs=3, batch_size=64)


def train(splits: Splits, recipe: Recipe, out: Path, **options: Any) -> FitResult:
    """Start a run in a folder, or go on with the one there."""
    last = out / run_folder.LAST
    resume = load_checkpoint(last) if last.exists() else None
    seed = options.pop("seed", 7)
    model = models.ARCHITECTURES[recipe.model](dropout=recipe.dropout, seed=seed)
    return fit(model, splits, recipe, seed=seed, out=out, resume=resume, **options)


@pytest.fixture(scope="module")
def whole(splits: Splits, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never stopped."""
    out = tmp_path_factory.mktemp("whole")
    train(splits, recipe, out)
    return out


def stop_at(epoch: int, step: int, number: int = signal.SIGINT) -> Callable[[StepReport], None]:
    def send(report: StepReport) -> None:
        if (report.epoch, report.step) == (epoch, step):
            os.kill(os.getpid(), number)

    return send


def without_times(out: Path) -> list[dict[str, Any]]:
    lines = (out / "history.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key not in TIMES}
        for line in lines
    ]


def assert_same_run(out: Path, whole: Path) -> None:
    """Compare all that two runs left, in every bit, but for the times that they took."""
    assert (out / "model.npz").read_bytes() == (whole / "model.npz").read_bytes()
    assert without_times(out) == without_times(whole)
    rows = [(out / "history.csv").read_text(), (whole / "history.csv").read_text()]
    ours, theirs = ([line.split(",")[:5] for line in text.splitlines()] for text in rows)
    assert ours == theirs
    last, other = (load_checkpoint(folder / "last.npz") for folder in (out, whole))
    assert last.tensors.keys() == other.tensors.keys()
    for name, value in last.tensors.items():
        np.testing.assert_array_equal(value, other.tensors[name], strict=True)
    assert (last.run, last.tally) == (other.run, other.tally)


@pytest.mark.parametrize("place", [(1, 1), (2, 2), (2, 3), (3, 3)])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupted_run_ends_as_one_that_was_not(
    place: tuple[int, int],
    threads: int,
    splits: Splits,
    recipe: Recipe,
    whole: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(Interruption) as caught:
        train(splits, recipe, tmp_path, on_step=stop_at(*place))
    assert caught.value.signal == signal.SIGINT
    tally = load_checkpoint(tmp_path / "last.npz").tally
    assert (tally.epoch, tally.step) == place
    mnist100.set_num_threads(threads)
    result = train(splits, recipe, tmp_path)
    assert_same_run(tmp_path, whole)
    assert tuple(read_history(tmp_path / "history.csv")) == result.history


def test_a_run_may_be_stopped_at_every_step(
    splits: Splits, recipe: Recipe, whole: Path, tmp_path: Path
) -> None:
    places = [(epoch, step) for epoch in (1, 2, 3) for step in (1, 2, 3)]
    for place in places:
        with pytest.raises(Interruption):
            train(splits, recipe, tmp_path, on_step=stop_at(*place, signal.SIGTERM))
    train(splits, recipe, tmp_path)
    assert_same_run(tmp_path, whole)


def test_a_signal_during_evaluation_waits_for_the_epoch(
    splits: Splits, recipe: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = evaluation.accuracy

    def interrupted(*arguments: Any) -> float:
        monkeypatch.setattr(training_inputs, "accuracy", real)
        signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    reports: list[int] = []
    monkeypatch.setattr(training_inputs, "accuracy", interrupted)
    with pytest.raises(Interruption) as caught:
        train(splits, recipe, tmp_path, on_epoch=lambda report: reports.append(report.record.epoch))
    assert caught.value.signal == signal.SIGTERM
    assert reports == [1]
    checkpoint = load_checkpoint(tmp_path / "last.npz")
    assert (len(checkpoint.history), checkpoint.tally.epoch, checkpoint.tally.step) == (1, 2, 0)
    train(splits, recipe, tmp_path)
    assert_same_run(tmp_path, whole)


def test_state_is_written_before_the_first_step(
    splits: Splits, recipe: Recipe, whole: Path, tmp_path: Path
) -> None:
    class Crash(Exception):  # noqa: N818
        pass

    def crash(_: StepReport) -> None:
        raise Crash

    with pytest.raises(Crash):
        train(splits, recipe, tmp_path, on_step=crash)
    assert [path.name for path in tmp_path.iterdir()] == ["last.npz"]
    train(splits, recipe, tmp_path)
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize(("seconds", "epochs"), [(0.0, 2), (1e9, 0)])
def test_a_run_killed_between_its_files_repeats_epochs(
    splits: Splits,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    epochs: int,
) -> None:
    monkeypatch.setattr(keeper, "SECONDS_BETWEEN_STATES", seconds)
    no_dev = Splits(splits.train, None, splits.test)  # so that every epoch is the best
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def keep(report: StepReport) -> None:
        if (report.epoch, report.step) == (3, 1):
            shutil.copytree(whole, killed)

    whole.mkdir()
    train(no_dev, recipe, whole, on_step=keep)
    shutil.copy(whole / "model.npz", killed)  # of the third epoch, of which last.npz knows nothing
    assert mnist100.load_model(killed).metadata["epoch"] == 3
    assert len(load_checkpoint(killed / "last.npz").history) == epochs
    train(no_dev, recipe, killed)
    assert_same_run(killed, whole)


def test_early_stopping_goes_on_counting(
    splits: Splits, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe.replace(epochs=9, patience=3, ema_decay=0.0)
    dev = [0.2, 0.6, 0.5, 0.4, 0.3, 0.9]
    values = iter([value for one in dev for value in (0.5, one)])
    monkeypatch.setattr(training_inputs, "accuracy", lambda *_: next(values))
    with pytest.raises(Interruption):
        train(splits, recipe, tmp_path, on_step=stop_at(4, 2))
    result = train(splits, recipe, tmp_path)
    assert (result.best_epoch, result.dev_accuracy, result.stopped_early) == (2, 0.6, True)
    assert len(result.history) == 5
    again = train(splits, recipe, tmp_path)  # complete: nothing is measured, nothing is written
    assert again == result


def test_a_complete_run_is_left_alone(
    splits: Splits, recipe: Recipe, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(whole, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    result = train(splits, recipe, out)
    assert tuple(read_history(whole / "history.csv")) == result.history
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize("backend", [None, Numpy()])
def test_other_kinds_of_runs_go_on_too(
    backend: Numpy | None, splits: Splits, recipe: Recipe, tmp_path: Path
) -> None:
    no_dev = Splits(splits.train, None, splits.test)
    recipe = recipe.replace(ema_decay=0.0, pairing="fixed", epochs=2, schedule="constant")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    train(no_dev, recipe, whole, backend=backend)
    with pytest.raises(Interruption):
        train(no_dev, recipe, stopped, backend=backend, on_step=stop_at(2, 1))
    train(no_dev, recipe, stopped, backend=backend)
    assert_same_run(stopped, whole)


@pytest.mark.parametrize("model", ["cnn", "siamese"])
def test_convolutions_go_on_too(model: str, splits: Splits, recipe: Recipe, tmp_path: Path) -> None:
    recipe = recipe.replace(model=model, epochs=1)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    train(splits, recipe, whole)
    with pytest.raises(Interruption):
        train(splits, recipe, stopped, on_step=stop_at(1, 2))
    mnist100.set_num_threads(3)
    train(splits, recipe, stopped)
    assert_same_run(stopped, whole)


@pytest.mark.parametrize(
    ("change", "key"),
    [({"seed": 8}, "seed"), ({"epochs": 4}, "recipe"), ({"train": 131}, "train_sha256")],
)
def test_another_run_does_not_go_on(
    change: dict[str, int], key: str, splits: Splits, recipe: Recipe, whole: Path
) -> None:
    seed = change.get("seed", 7)
    recipe = recipe.replace(epochs=change.get("epochs", 3))
    train_digits = easy_digits(change["train"], 1) if "train" in change else splits.train
    other = Splits(train_digits, splits.dev, splits.test)
    before = (whole / "last.npz").read_bytes()
    with pytest.raises(CheckpointError, match=rf"last\.npz: is of another run: {key} differ"):
        train(other, recipe, whole, seed=seed)
    assert (whole / "last.npz").read_bytes() == before


def test_where_a_run_goes_on_is_not_a_model(whole: Path) -> None:
    with pytest.raises(
        ModelFileError, match=r"last\.npz: is where a run goes on, .* its model\.npz"
    ):
        mnist100.load_model(whole / "last.npz")


def test_batches_can_be_skipped(splits: Splits, recipe: Recipe) -> None:
    inputs = TrainingInputs(splits, recipe, 7, 1)
    for (x, labels), (y, others) in zip(
        list(inputs.batches(2))[1:], inputs.batches(2, skip=1), strict=True
    ):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(labels, others)


Arrays = dict[str, npt.NDArray[Any]]


def edit_facts(arrays: Arrays, edit: Callable[[dict[str, Any]], Any]) -> None:
    facts = json.loads(str(arrays["metadata"]))
    edit(facts)
    arrays["metadata"] = np.array(json.dumps(facts))


FAULTS: dict[str, tuple[Callable[[Arrays], Any], str]] = {
    "metadata missing": (lambda a: a.pop("metadata"), "no entry metadata"),
    "metadata not JSON": (lambda a: a.update(metadata=np.array("{")), "metadata is not JSON"),
    "another format": (lambda a: edit_facts(a, lambda f: f.update(format=2)), "format 1"),
    "no run": (lambda a: edit_facts(a, lambda f: f.pop("run")), "does not say what the run is"),
    "no tally": (lambda a: edit_facts(a, lambda f: f.pop("tally")), "tally: got None"),
    "step of text": (
        lambda a: edit_facts(a, lambda f: f["tally"].update(step="1")),
        "step is '1', not a number",
    ),
    "loss not finite": (
        lambda a: edit_facts(a, lambda f: f["tally"].update(loss_sum=float("nan"))),
        "loss_sum is nan",
    ),
    "step too large": (
        lambda a: edit_facts(a, lambda f: f["tally"].update(step=4)),
        "step is 4, wants at most 3",
    ),
    "wrong epoch": (lambda a: edit_facts(a, lambda f: f["tally"].update(epoch=2)), "wants 4"),
    "history short": (lambda a: a.update(history=a["history"][:, :5]), "not float64 .epochs, 7"),
    "history without 1": (lambda a: a.update(history=a["history"][1:]), "count its epochs from 1"),
    "history not finite": (lambda a: a["history"].__setitem__((0, 1), np.inf), "not finite"),
    "weights missing": (lambda a: a.pop("weights.fc1_W"), "missing or unknown: weights.fc1_W"),
    "entry unknown": (lambda a: a.update(odd=np.ones(3)), "missing or unknown: odd"),
    "wrong shape": (lambda a: a.update({"adam_m.fc1_b": np.ones(3, "f4")}), r"wants float32 .512"),
    "wrong dtype": (lambda a: a.update({"adam_m.fc1_b": np.ones(512)}), "is float64"),
    "not finite": (
        lambda a: a["adam_v.fc1_b"].__setitem__(0, np.nan),
        "values that are not finite",
    ),
    "objects": (lambda a: a.update(odd=np.array([None])), "not a NumPy array|holds objects"),
    "too large": (lambda a: a.update(odd=np.zeros(900_000)), "at most"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_last_file_with_a_fault_is_refused(
    fault: str, splits: Splits, recipe: Recipe, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / "last.npz"
    with np.load(path) as file:
        arrays = dict(file)
    damage, message = FAULTS[fault]
    damage(arrays)
    np.savez(path, **arrays)
    with pytest.raises(CheckpointError, match=rf"^{path}: .*({message})"):
        train(splits, recipe, path.parent)


@pytest.mark.parametrize("cut", [0, 100, -100])
def test_half_a_last_file_is_refused(cut: int, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.npz"
    path.write_bytes((whole / "last.npz").read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"last\.npz: not a readable \.npz file"):
        load_checkpoint(path)


def test_the_best_model_has_to_be_of_the_run(
    splits: Splits, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(Interruption):
        train(splits, recipe, tmp_path, on_step=stop_at(2, 1))
    model = mnist100.load_model(tmp_path)
    model.metadata["epoch"] = 9
    mnist100.modelfile.save_model(model, tmp_path / "model.npz")
    with pytest.raises(CheckpointError, match=r"model\.npz: is of epoch 9, wants 1"):
        train(splits, recipe, tmp_path)
    (tmp_path / "model.npz").unlink()
    with pytest.raises(CheckpointError, match=r"model\.npz: is missing; .* best so far"):
        train(splits, recipe, tmp_path)


def test_the_second_signal_does_not_wait() -> None:
    reached = []

    def block(signals: HeldSignals) -> None:
        signal.raise_signal(signal.SIGINT)
        reached.append(signals.received)
        signal.raise_signal(signal.SIGINT)
        reached.append(None)

    with pytest.raises(KeyboardInterrupt) as caught, hold_signals() as signals:
        block(signals)
    assert not isinstance(caught.value, Interruption)
    assert reached == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_quick_epochs_share_a_state(
    splits: Splits, recipe: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, states = [0.0], list[int]()
    monkeypatch.setattr("mnist100.training.keeper.monotonic", lambda: now[0])

    def on_epoch(report: EpochReport) -> None:
        states.append(len(load_checkpoint(tmp_path / "last.npz").history))
        rows = read_history(tmp_path / "history.csv") if states[-1] else []
        assert len(rows) == states[-1]
        now[0] += 0.4

    train(splits, recipe.replace(epochs=7, patience=7), tmp_path, on_epoch=on_epoch)
    assert states == [0, 0, 0, 4, 4, 4, 7]  # seconds 0.0, 0.4, 0.8, 1.2, 1.6, 2.0 and the last


@pytest.mark.parametrize(("event", "epochs"), [("on_epoch", 2), ("on_step", 0)])
def test_an_exception_loses_no_epoch_of_the_history(
    splits: Splits,
    recipe: Recipe,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    event: str,
    epochs: int,
) -> None:
    monkeypatch.setattr(keeper, "SECONDS_BETWEEN_STATES", 1e9)

    def fail(report: EpochReport | StepReport) -> None:
        if isinstance(report, StepReport):
            if (report.epoch, report.step) == (3, 1):
                raise RuntimeError("over")
        elif report.record.epoch == 2:
            raise RuntimeError("over")

    with pytest.raises(RuntimeError, match="over"):
        train(splits, recipe, tmp_path, **{event: fail})
    assert [one.epoch for one in read_history(tmp_path / "history.csv")] == [1, 2]
    assert len(load_checkpoint(tmp_path / "last.npz").history) == epochs
    train(splits, recipe, tmp_path)
    assert_same_run(tmp_path, whole)


def test_the_second_signal_leaves_whole_files(
    splits: Splits, recipe: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "SECONDS_BETWEEN_STATES", 0.0)

    def send_twice(report: StepReport) -> None:
        if (report.epoch, report.step) == (2, 2):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(splits, recipe, tmp_path, on_step=send_twice)
    tally = load_checkpoint(tmp_path / "last.npz").tally
    assert (tally.epoch, tally.step) == (2, 0)
    train(splits, recipe, tmp_path)
    assert_same_run(tmp_path, whole)


def test_a_held_signal_is_never_lost() -> None:
    def block() -> None:
        with hold_signals() as outer:
            with hold_signals() as inner:
                signal.raise_signal(signal.SIGTERM)
            assert inner is outer

    with pytest.raises(Interruption) as caught:
        block()
    assert caught.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# The command line, in a process of its own.

QUICK = ("--model", "mlp", "--batch-size", "64", "--epochs", "5")


def write_pairs(path: Path, first: int = 0) -> Path:
    """Write a data set of 300 finished pairs to train on and 60 to test on; each digit twice."""
    digits = mnist100.data.load_source("digits").train.take(np.arange(first, first + 360))
    images, labels = np.concatenate([digits.images, digits.images], axis=2), 11 * digits.labels
    np.savez(
        path,
        train_images=images[:300],
        train_labels=labels[:300],
        test_images=images[300:],
        test_labels=labels[300:],
    )
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs.npz")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return mnist("train", *arguments)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the command line that was never stopped."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    result = run("--dataset", data, *QUICK, "--out", out)
    assert (result.returncode, result.stderr) == (0, "")
    return out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_and_resume_goes_on(
    number: int, code: int, data: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a run"
    arguments = ("--dataset", data, *QUICK, "--out", out, "--threads", 1)
    assert signalled("train", *arguments, at="epoch ", number=number) == (
        code,
        f"mnist100: interrupted: go on with: mnist100 train --resume --out '{out}'\n",
    )
    # The epoch at whose line the signal came, or one more.
    assert 1 <= len(read_history(out / "history.csv")) < 5
    (out / ".last.npz.leftover").touch()  # as a kill leaves it
    result = run("--resume", "--out", out, "--threads", 3)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Going on with" in result.stdout
    assert_same_run(out, finished)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.name for path in finished.iterdir()
    )
    resumed = tomllib.loads((out / "config.toml").read_text())["resumed"]
    assert [(one["threads"], one["command"]) for one in resumed] == [
        (3, f"mnist100 train --resume --out '{out}' --threads 3")
    ]


def test_a_complete_run_says_so(finished: Path) -> None:
    before = (finished / "config.toml").read_bytes()
    result = run("--resume", "--out", finished, "--json")
    assert result.returncode == 0
    assert f"{finished} is complete: there is no epoch left to train" in result.stderr
    assert json.loads(result.stdout)["epochs"] == 5
    assert (finished / "config.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "has"),
    [
        ("--epochs", "3", "5"),
        ("--seed", "1", "0"),
        ("--dev-size", "0", "50"),
        ("--backend", "numpy", "'native'"),
        ("--recipe", "reference", "0.003"),
        ("--learning-rate", "0.1", "0.003"),
    ],
)
def test_options_that_contradict_the_run_are_refused(
    option: str, value: str, has: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["train", "--resume", "--out", str(finished), option, value]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    name = "--learning-rate" if option == "--recipe" else option
    wants = f"argument {name}: got "
    assert wants in output.err or option == "--recipe"
    assert f"was started with {has} and goes on so" in output.err or option == "--recipe"
    assert str(finished) in output.err


def test_resume_has_to_know_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", "--resume"]) == 2
    assert "argument --resume: wants --out" in capsys.readouterr().err
    assert main.main(["train", "--resume", "--out", str(tmp_path)]) == 1
    assert f"{tmp_path}: no run to go on with here" in capsys.readouterr().err


def edit_config(out: Path, old: str, new: str) -> None:
    path = out / "config.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 0", "seed = -1", "config.toml: seed is -1, which no run writes"),
        ("epochs = 5", "epochs = 0", "config.toml: recipe: epochs: got 0"),
        ("epochs = 5", "", "config.toml: recipe: "),
        ("[recipe]", "[recipe", "config.toml: not a TOML file"),
        ('dev_sha256 = "', 'dev_sha256 = "0', "pairs.npz: holds other dev data than the run in"),
        ("seed = 0", "seed = 1", "last.npz: is of another run: seed differ"),
    ],
)
def test_a_run_that_was_tampered_with_does_not_go_on(
    old: str,
    new: str,
    message: str,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    edit_config(out, old, new)
    assert main.main(["train", "--resume", "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (out / "last.npz").read_bytes() == (finished / "last.npz").read_bytes()


def test_other_data_are_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_pairs(tmp_path / "pairs.npz", first=1)
    arguments = ["train", "--resume", "--out", str(finished), "--dataset", str(other)]
    assert main.main(arguments) == 2
    error = capsys.readouterr().err
    assert "which holds other train and dev and test data than the run in" in error


def test_data_may_have_moved(finished: Path, tmp_path: Path) -> None:
    moved = write_pairs(tmp_path / "moved.npz")
    assert main.main(["train", "--resume", "--out", str(finished), "--dataset", str(moved)]) == 0


def test_a_lost_last_file_is_told(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "last.npz").unlink()
    assert main.main(["train", "--resume", "--out", str(tmp_path / "run")]) == 1
    assert "last.npz: is missing, so the run cannot go on" in capsys.readouterr().err
