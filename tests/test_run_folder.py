"""Early stopping, history and the run folder: what surrounds the training loop."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mnist100.training import (
    EpochRecord,
    read_history,
    run_folder,
)
from mnist100.training.early_stopping import EarlyStopping
from mnist100.training.history import HEADER, write_history


def test_early_stopping_adds_small_gains_up() -> None:
    stopping = EarlyStopping(patience=2, min_delta=0.1)
    kept = [stopping.update(value) for value in (0.5, 0.55, 0.62, 0.62, 0.61)]
    assert kept == [True, True, True, False, False]
    assert stopping.should_stop
    assert stopping.best == 0.62


def test_early_stopping_needs_more_than_min_delta() -> None:
    stopping = EarlyStopping(patience=1, min_delta=0.25)
    assert stopping.update(0.5)
    assert not stopping.should_stop
    assert stopping.update(0.75)  # the best so far, yet it does not count
    assert stopping.should_stop


@pytest.mark.parametrize(("patience", "min_delta"), [(0, 0.0), (1, -0.1), (1, math.nan)])
def test_early_stopping_refuses_nonsense(patience: int, min_delta: float) -> None:
    with pytest.raises(ValueError, match="got"):
        EarlyStopping(patience, min_delta)


RECORDS = [
    EpochRecord(1, 1 / 3, 0.1, None, 1e-17, 2.5, 1e6 / 3),
    EpochRecord(2, 0.1 + 0.2, 0.9, 0.875, 1e-3, 2.0, 7.0),
]


def test_history_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    write_history(path, RECORDS)
    assert read_history(path) == RECORDS
    header = "epoch,loss,train_acc,dev_acc,learning_rate,seconds,images_per_second"
    assert path.read_text().splitlines()[0] == header == ",".join(HEADER)


@pytest.mark.parametrize(
    ("content", "fault"),
    [("", "line 1"), ("epoch,loss\n", "line 1"), (",".join(HEADER) + "\n1,2,3\n", "line 2")],
)
def test_another_file_is_not_a_history(content: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"history\.csv: {fault}: "):
        read_history(path)


@pytest.mark.parametrize("name", run_folder.RUN_FILES)
def test_a_folder_with_a_run_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    run_folder.check_folder(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match=f"already holds a run .{name}.; give another"):
        run_folder.check_folder(tmp_path)


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        run_folder.check_folder(tmp_path / "file" / "run")


def test_of_two_runs_that_start_together_one_gets_the_folder(tmp_path: Path) -> None:
    run_folder.check_folder(tmp_path)
    run_folder.check_folder(tmp_path)
    run_folder.create_folder(tmp_path, {"seed": 1})
    with pytest.raises(FileExistsError, match="another run"):
        run_folder.create_folder(tmp_path, {"seed": 2})
    assert (tmp_path / run_folder.CONFIG).read_text() == "seed = 1\n"


def test_the_default_folder_is_the_first_free_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_folder.default_folder("cnn") == Path("runs/cnn-1")
    (tmp_path / "cnn-1").mkdir()
    (tmp_path / "cnn-3").mkdir()
    assert run_folder.default_folder("cnn", tmp_path) == tmp_path / "cnn-2"


def test_a_run_that_kept_nothing_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "x"
    run_folder.create_folder(folder, {"seed": 1})
    assert (folder / "config.toml").read_text() == "seed = 1\n"
    (folder / "last.npz").touch()
    (folder / ".model.npz.killed").touch()
    run_folder.discard(folder)
    assert not folder.exists()
    run_folder.create_folder(folder, {"seed": 1})
    (folder / "notes.txt").touch()
    run_folder.discard(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_the_best_model_is_found(tmp_path: Path) -> None:
    assert run_folder.best_model(tmp_path) is None
    (tmp_path / "model.pt").touch()
    assert run_folder.best_model(tmp_path) == tmp_path / "model.pt"
