"""The commands that search, as a person runs them, on digits that are easy to tell apart."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NoReturn

import pytest
from rich.console import Console

import mnist100
from commands import signalled
from mnist100.cli import inputs, main
from mnist100.cli.search_display import SearchDisplay
from mnist100.data import Source, load_source
from mnist100.search import Point, TrialResult, TrialStep, folder
from mnist100.training import EpochRecord, StepReport, load_recipe, read_history, run_folder
from runs import easy_splits, write_idx
from support import PATIENCE

QUICK = ("--model", "mlp", "--epochs", "2", "--batch-size", "64")
RANGES = ("--trials", "5", "--lr-min", "1e-4", "--lr-max", "3e-2", "--prune")
FILES = ["best.toml", "search.png", "search.toml", "study.db", "summary.csv", "trials"]
TIMES = ("seconds", "images_per_second")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "idx"
    write_idx(folder, easy_splits())
    return folder


@pytest.fixture(scope="module")
def searched(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random search that was never stopped."""
    out = tmp_path_factory.mktemp("searches") / "whole"
    result = finished("random-search", *arguments(data, out))
    assert (result.returncode, result.stderr) == (0, "")
    return out


def arguments(data: Path, out: Path) -> list[str]:
    return ["--dataset", str(data), *QUICK, *RANGES, "--seed", "3", "--out", str(out)]


def finished(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "mnist100", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(newline="") as file:
        return [{key: row[key] for key in row if key not in TIMES} for row in csv.DictReader(file)]


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    """Run a command that fails; return the one line that it says."""
    assert main.main([str(word) for word in words]) == code
    output = capsys.readouterr()
    assert output.err.count("\n") == 1, output.err
    return output.err


def test_random_search_leaves_a_whole_search(searched: Path, data: Path) -> None:
    assert names(searched) == FILES
    ranked = rows(searched)
    accuracies = [float(row["dev_acc"]) for row in ranked]
    assert accuracies == sorted(accuracies, reverse=True)
    assert [row["rank"] for row in ranked] == ["1", "2", "3", "4", "5"]
    assert {row["outcome"] for row in ranked} == {"complete", "pruned"}
    for row in ranked:
        history = read_history(searched / "trials" / row["trial"] / "history.csv")
        assert len(history) == int(row["epochs"])
        assert max(record.dev_acc or 0 for record in history) == float(row["dev_acc"])
        assert 1e-4 <= float(row["learning_rate"]) <= 3e-2
        assert 1e-6 <= float(row["reg_lambda"]) <= 1
    config = tomllib.loads((searched / "search.toml").read_text())
    assert config["command"] == shlex.join(
        ["mnist100", "random-search", *arguments(data, searched)]
    )
    assert sorted(config["search"]["data"]) == ["dev_sha256", "repeats", "train_sha256"]
    best = load_recipe(searched / "best.toml")
    assert (best.learning_rate, best.model) == (float(ranked[0]["learning_rate"]), "mlp")


def test_a_stopped_search_goes_on_by_the_same_command(
    data: Path, searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a search"
    words = ["random-search", *arguments(data, out)]
    code, errors = signalled(*words, at="trial 2/5")
    assert code == 130
    done = len(rows(out))
    again = shlex.join(["mnist100", *words])
    assert errors == (f"mnist100: interrupted: {done} of 5 trials are done; go on with: {again}\n")
    assert 2 <= done < 5
    assert main.main([*words, "--threads", "3"]) == 0
    printed = capsys.readouterr().out
    assert f"Going on after {done} of 5 trials" in printed
    assert sum(line.startswith("trial ") for line in printed.splitlines()) == 5 - done
    assert rows(out) == rows(searched)
    assert (out / "best.toml").read_bytes() == (searched / "best.toml").read_bytes()
    assert main.main(words) == 0
    assert f"{out} is complete: there is no trial left to run" in capsys.readouterr().out


def test_json_is_one_object(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["lr-sweep", "--learning-rates", "1e-4,2e-2,1e-9", "--dataset", str(data), *QUICK]
    assert main.main([*words, "--reg-lambda", "0", "--json", "--storage", "study.db"]) == 0
    output = capsys.readouterr()
    value = json.loads(output.out)
    assert value["out"] == os.path.join("runs", "lr-sweep-1")
    assert names(Path(value["out"])) == [name for name in FILES if name != "study.db"]
    assert Path("study.db").exists()
    trials = value["trials"]
    assert sorted(one["learning_rate"] for one in trials) == [1e-9, 1e-4, 2e-2]
    assert {one["reg_lambda"] for one in trials} == {0.0}
    assert [one["accuracy"] for one in trials] == sorted(
        (one["accuracy"] for one in trials), reverse=True
    )
    assert value["best"] == trials[0]
    assert 0 <= trials[0]["accuracy"] == value["accuracy"] <= 1
    assert value["measured_on"] == "dev"
    assert "Best: trial 2, learning rate 0.02" in output.err


def test_auto_train_ends_in_a_run(
    data: Path, searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    final = ("--final-epochs", "3", "--final-batch-size", "32", "--final-dropout", "0.1")
    words = ["auto-train", *arguments(data, out), *final]
    assert main.main([*words, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert sorted({*names(out)} - {"curves.png", "history.jsonl"}) == [
        "config.toml",
        "history.csv",
        "last.npz",
        "model.npz",
        "search",
    ]
    assert names(out / "search") == FILES
    assert rows(out / "search") == rows(searched)
    best = load_recipe(out / "search" / "best.toml")
    changes = {"epochs": 3, "batch_size": 32, "dropout": 0.1}
    assert load_recipe(out / "config.toml") == best.replace(**changes)
    model = mnist100.load_model(out)
    assert model.metadata["dev_accuracy"] == value["dev_accuracy"]
    assert value["accuracy"] == value["correct"] / value["total"]
    assert value["search"]["best"]["learning_rate"] == best.learning_rate
    before = (out / "model.npz").read_bytes()
    assert main.main(words) == 0
    printed = capsys.readouterr().out
    assert f"{out} is complete: there is no epoch left to train" in printed
    assert (out / "model.npz").read_bytes() == before
    error = refused(capsys, 2, *words, "--trials", "6")
    assert "argument --trials: is 6" in error  # the best might be another one
    error = refused(capsys, 2, *words[:-1], "0.2")
    assert f"argument --final-dropout: is 0.2, but the search in {out / 'search'}" in error
    assert "was started with 0.1" in error
    assert "give another --out" in error


def test_a_stopped_final_training_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    words = ["auto-train", *arguments(data, out), "--trials", "1", "--final-epochs", "6"]
    code, errors = signalled(*words, at="epoch 1/6")
    assert code == 130
    assert errors.endswith(f"go on with: mnist100 train --resume --out {out}\n")
    assert main.main(words) == 0
    printed = capsys.readouterr().out
    assert f"{out / 'search'} is complete" in printed
    assert f"Going on with {out} in epoch" in printed
    recipe = str(out / "search" / "best.toml")
    best = ("--recipe", recipe, "--epochs", "6", "--seed", "3")
    assert main.main(["train", "--dataset", str(data), *best, "--out", str(whole)]) == 0
    alone, ours = (mnist100.load_model(folder) for folder in (whole, out))
    for one, other in zip(alone.parameters(), ours.parameters(), strict=True):
        assert one.value.tobytes() == other.value.tobytes()


def test_a_search_is_no_place_for_a_run(
    searched: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, 1, "train", "--dataset", data, "--out", searched)
    assert "holds a search (search.toml); give another --out" in error


def test_auto_train_does_not_go_on_with_another_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["auto-train", *arguments(data, tmp_path), "--final-epochs", "1", "--trials", "1"]
    (tmp_path / "model.npz").touch()
    error = refused(capsys, 1, *words)
    assert "already holds a run (model.npz); give another --out" in error
    assert "--resume" not in error
    (tmp_path / "model.npz").unlink()
    assert main.main(words) == 0
    capsys.readouterr()
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().replace("dropout = 0.4", "dropout = 0.3"))
    main.main(words)
    assert "holds another run than this search ends in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (("--trials", "4"), 2, ["argument --trials: is 4", "was started with 5", "--out"]),
        (("--seed", "4"), 2, ["argument --seed: is 4", "was started with 3"]),
        (("--lr-max", "1e-2"), 2, ["argument --lr-max: is 0.01", "was started with 0.03"]),
        (("--dropout", "0"), 2, ["argument --dropout: is 0.0", "was started with 0.4"]),
        (("--epochs", "1"), 2, ["argument --epochs: is 1", "was started with 2"]),
        (("--backend", "numpy"), 2, ["argument --backend: is 'numpy'"]),
        (("--recipe", "reference"), 2, ["argument --", "was started with"]),
        (("--dev-size", "30"), 1, ["was searched with other data", "train_sha256"]),
        (("--storage", "other.db"), 2, ["argument --storage: is 'other.db'"]),
    ],
)
def test_another_command_is_refused(
    words: tuple[str, ...],
    code: int,
    parts: list[str],
    data: Path,
    searched: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {path: path.stat().st_mtime_ns for path in searched.rglob("*")}
    monkeypatch.chdir(searched.parent)
    error = refused(capsys, code, "random-search", *arguments(data, searched), *words)
    for part in [str(searched), *parts]:
        assert part in error
    assert {path: path.stat().st_mtime_ns for path in searched.rglob("*")} == before
    assert names(searched.parent) == [searched.name]


def test_trials_may_be_raised(
    data: Path, searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(searched, tmp_path / "more")
    words = ["random-search", *arguments(data, tmp_path / "more"), "--trials", "7"]
    assert main.main(words) == 0
    assert "Going on after 5 of 7 trials" in capsys.readouterr().out
    assert main.main(["random-search", *arguments(data, tmp_path / "whole"), "--trials", "7"]) == 0
    assert rows(tmp_path / "more") == rows(tmp_path / "whole")
    recorded = (tmp_path / "more" / "search.toml").read_text()
    assert "trials = 7" in recorded
    assert "--trials 7" in recorded


def test_another_kind_of_search_is_refused(
    data: Path, searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ("lr-sweep", "--dataset", data, *QUICK)
    error = refused(capsys, 1, *sweep, "--out", searched)
    assert f"{searched}: holds a search by random-search, not lr-sweep; give another --out" in error
    study = searched / "study.db"
    error = refused(capsys, 1, *sweep, "--out", tmp_path / "new", "--storage", study)
    assert f"{study}: holds a search by random-search, not lr-sweep; give another --stor" in error
    assert not names(tmp_path)


def test_a_study_may_be_shown_in_another_folder(
    data: Path, searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = shutil.copy(searched / "study.db", tmp_path / "study.db")
    words = ["random-search", *arguments(data, tmp_path / "out"), "--storage", f"sqlite:///{study}"]
    assert main.main(words) == 0
    assert "there is no trial left to run" in capsys.readouterr().out
    assert rows(tmp_path / "out") == rows(searched)
    config = tomllib.loads((tmp_path / "out" / "search.toml").read_text())
    assert config["search"]["storage"] == f"sqlite:///{study}"


def test_a_summary_is_not_lost_with_its_study(
    data: Path, searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(searched, out)
    (out / "study.db").unlink()
    error = refused(capsys, 1, "random-search", *arguments(data, out))
    assert f"{out / 'study.db'}: is missing, and summary.csv would be lost" in error
    assert (out / "summary.csv").read_bytes() == (searched / "summary.csv").read_bytes()
    assert not (out / "study.db").exists()


class Untouchable:
    """A test set whose size is all that anybody may know."""

    def __len__(self) -> int:
        return 1

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test set was asked for its {name}")


@pytest.mark.parametrize("command", ["lr-sweep", "random-search"])
def test_data_are_read_once_and_test_data_not_used(
    command: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    def load(dataset: str) -> Source:
        reads.append(dataset)
        source = load_source(dataset)
        object.__setattr__(source, "test", Untouchable())
        return source

    monkeypatch.setattr(inputs, "load_with_progress", load)
    words = [command, "--dataset", str(data), *QUICK, "--out", str(tmp_path)]
    number = ["--trials", "2"] if command == "random-search" else ["--learning-rates", "1e-3,2e-3"]
    assert main.main([*words, *number]) == 0
    assert reads == [str(data)]
    assert len(rows(tmp_path)) == 2


def test_a_search_that_only_diverges_says_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("lr-sweep", "--learning-rates", "1e30", "--dataset", data, *QUICK)
    error = refused(capsys, 1, *words, "--out", tmp_path)
    assert f"{tmp_path}: every trial diverged; try lower learning rates" in error
    assert rows(tmp_path)[0]["outcome"] == "diverged"


@pytest.mark.parametrize(
    ("command", "option", "value", "wants"),
    [
        ("lr-sweep", "--learning-rates", "", "a finite number above 0"),
        ("lr-sweep", "--learning-rates", "1e-3,,2e-3", "a finite number above 0"),
        ("lr-sweep", "--learning-rates", "1e-3,0", "a finite number above 0"),
        ("lr-sweep", "--learning-rates", "1e-3,0.001", "every learning rate once"),
        ("lr-sweep", "--dev-size", "0", "a whole number from 1"),
        ("lr-sweep", "--epochs", "0", "a whole number from 1"),
        ("random-search", "--trials", "0", "a whole number from 1"),
        ("random-search", "--lr-min", "0", "a finite number above 0"),
        ("random-search", "--reg-max", "inf", "a finite number above 0"),
        ("random-search", "--storage", " ", "an Optuna storage URL or a file"),
        ("auto-train", "--final-epochs", "0", "a whole number from 1"),
        ("auto-train", "--final-dropout", "1", "below 1"),
        ("auto-train", "--out", "", "a folder"),
    ],
)
def test_a_wrong_value_is_refused_before_data_are_read(
    command: str, option: str, value: str, wants: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main([command, "--dataset", "/does/not/exist", option, value])
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"mnist100 {command}: error: argument {option}: got ")
    assert wants in output.err
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "options"),
    [("lr-sweep", ["--learning-rate"]), ("random-search", ["--learning-rate", "--reg-lambda"])],
)
def test_what_is_searched_cannot_be_given(
    command: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for option in options:
        with pytest.raises(SystemExit):
            main.main([command, option, "1e-3"])
        assert f"unrecognized arguments: {option}" in capsys.readouterr().err


def test_bad_input_that_only_the_rest_shows(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ("random-search", "--dataset", data, "--out", out)
    error = refused(capsys, 2, *words, "--lr-min", "1", "--lr-max", "1e-3")
    assert "argument --lr-min: got 1, wants at most --lr-max, 0.001" in error
    error = refused(capsys, 2, *words, "--reg-min", "2")
    assert "argument --reg-min: got 2, wants at most --reg-max, 1" in error
    error = refused(capsys, 2, *words, "--storage", "nonsense://here")
    assert "argument --storage: got 'nonsense://here', which cannot be opened" in error
    assert "argument --dev-size" in refused(capsys, 2, *words, "--dev-size", "130")
    (tmp_path / "file").touch()
    error = refused(capsys, 1, "lr-sweep", "--dataset", data, "--out", tmp_path / "file")
    assert "is not a folder; give another --out" in error
    assert not out.exists()


def test_a_disk_that_is_full(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # No file may grow beyond 8 KB: less than an empty study.
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)); "
        "from mnist100.cli import main; sys.exit(main.main(sys.argv[1:]))"
    )
    out = tmp_path / "out"
    words = ["random-search", *arguments(data, out)]
    result = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 1
    assert f"{out / 'study.db'}: cannot be used (" in result.stderr
    assert "make room, or give another --out" in result.stderr
    assert not list(out.iterdir())

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_results", full)
        error = refused(capsys, 1, *words)
    assert f"{out}: cannot be written (No space left on device); " in error
    assert "make room and go on with: mnist100 random-search" in error
    assert main.main(words) == 0
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_a_file_that_is_no_study_is_left_alone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.db").write_text("mine" * 1000)
    error = refused(capsys, 1, "lr-sweep", "--dataset", data, "--out", tmp_path)
    assert "study.db: cannot be used (file is not a database); make room" in error
    assert (tmp_path / "study.db").read_text() == "mine" * 1000


def test_a_password_is_not_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "nonsense://me:secret@host/name"
    error = refused(capsys, 2, "lr-sweep", "--dataset", data, "--storage", url, "--out", tmp_path)
    assert "nonsense://me:***@host/name" in error
    assert "secret" not in error


def test_the_first_free_folder_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "lr-sweep-1").mkdir()
    assert run_folder.default_folder("lr-sweep", tmp_path) == tmp_path / "lr-sweep-2"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(terminal: bool) -> None:
    file = io.StringIO()
    screen = Console(file=file, force_terminal=terminal, width=140, highlight=False, _environ={})
    display = SearchDisplay(screen, "digits", trials=20, done=3)
    record = EpochRecord(1, 0.5, 0.8, 0.75, 1e-3, 2.0, 1234.0)
    point = Point(0.00123, 1e-4)
    with display.running():
        display.on_trial(TrialResult(4, point, "complete", (record,)), is_best=True)
        display.on_trial(TrialResult(5, point, "pruned", (record,)), is_best=False)
        display.on_trial(TrialResult(6, point, "diverged", ()), is_best=False)
        display.on_step(TrialStep(7, 20, StepReport(2, 3, 5, 10, 0.25, 1e-3, 4321.0)))
    text = file.getvalue()
    line = (
        "trial  4/20  learning rate 0.00123, lambda 0.0001  2.0 s  dev 75.00% on digits in epoch 1"
    )
    assert f"{line}  best so far" in text
    assert "pruned after 1" in text
    assert "0.0 s  diverged" in text
    for part in ("trial 7/20", "epoch 2/3", "best dev 75.00%", "4,321 images/s", "left"):
        assert (part in text) == terminal
