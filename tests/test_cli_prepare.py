"""``mnist100 prepare``, and commands on the files it writes."""

from __future__ import annotations

import csv
import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist100.cli.main import main
from mnist100.data import (
    PAIRING_SEED,
    DigitSet,
    csv_pairs,
    digits8x8,
    npz_pairs,
    pair,
    read_folder,
)
from mnist100.data.idx import TEST_FILES, TRAIN_FILES, header
from mnist100.training import load_recipe, read_history

QUICK = ("--model", "mlp", "--epochs", "2", "--batch-size", "64", "--threads", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An IDX folder with 240 training and 80 test digits."""
    path = tmp_path_factory.mktemp("idx")
    tables = zip(digits8x8.load_digits(), (TRAIN_FILES, TEST_FILES), (240, 80), strict=True)
    for digits, names, count in tables:
        for values, name in zip((digits.images, digits.labels), names, strict=True):
            (path / name).write_bytes(header(values[:count]) + values[:count].tobytes())
    return path


@pytest.fixture(scope="module")
def prepared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders csv and npz with the permutation pairs of the small digits."""
    path = tmp_path_factory.mktemp("prepared")
    for form in ("csv", "npz"):
        arguments = ["--format", form, "--out", str(path / form), "--dataset", str(folder)]
        assert main(["prepare", *arguments]) == 0
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def assert_refused(captured: pytest.CaptureFixture[str], *parts: str) -> None:
    """Check that nothing was printed but one line on standard error that holds the parts."""
    output = captured.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    for part in parts:
        assert part in output.err


def original_script(train: DigitSet, test: DigitSet, folder: Path) -> None:
    """The script that this project grew from, word for word, with NumPy's global generator."""
    state = np.random.get_state()
    try:
        np.random.seed(42)
        rows: tuple[list[list[int]], list[list[int]]] = ([], [])
        for tens in range(10):
            for ones in range(10):
                for digits, most, found in ((train, 500, rows[0]), (test, 100, rows[1])):
                    tens_indices = np.where(digits.labels == tens)[0]
                    ones_indices = np.where(digits.labels == ones)[0]
                    n = min(most, len(tens_indices), len(ones_indices))
                    left = np.random.choice(tens_indices, n, replace=False)
                    right = np.random.choice(ones_indices, n, replace=False)
                    for i, j in zip(left, right, strict=True):
                        image = np.hstack([digits.images[i], digits.images[j]])
                        rows_of_split = [tens * 10 + ones, *image.flatten().tolist()]
                        found.append(rows_of_split)
    finally:
        np.random.set_state(state)
    for name, found in zip(("mnist_train.csv", "mnist_test.csv"), rows, strict=True):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["label"] + [f"p{i}" for i in range(28 * 56)])
            writer.writerows(found)


def test_balanced_csv_is_that_of_the_original_script(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / "here"
    options = ("--pairing", "balanced", "--format", "csv", "--dataset", folder, "--json")
    assert run("prepare", "--out", out, *options) == 0
    original_script(*read_folder(folder), tmp_path)
    facts = json.loads(capsys.readouterr().out)
    assert facts["pairing"] == "balanced"
    assert [file["path"] for file in facts["files"]] == [
        str(out / name) for name in ("mnist_train.csv", "mnist_test.csv")
    ]
    for file in facts["files"]:
        content = Path(file["path"]).read_bytes()
        assert content == (tmp_path / Path(file["path"]).name).read_bytes()
        assert file["bytes"] == len(content)
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert sorted(path.name for path in out.iterdir()) == ["mnist_test.csv", "mnist_train.csv"]


def test_npz_has_the_public_layout_and_permutation_is_usual(prepared: Path, folder: Path) -> None:
    assert [path.name for path in (prepared / "npz").iterdir()] == ["mnist_compressed.npz"]
    with np.load(prepared / "npz" / "mnist_compressed.npz") as file:
        for name, digits in zip(("train", "test"), read_folder(folder), strict=True):
            pairs = pair(digits, seed=PAIRING_SEED)
            images = pairs.images(np.arange(len(pairs)))
            np.testing.assert_array_equal(file[f"{name}_images"], images, strict=True)
            np.testing.assert_array_equal(file[f"{name}_labels"], pairs.labels)


def test_finished_pairs_go_from_one_format_to_the_other(prepared: Path, tmp_path: Path) -> None:
    for form, other in (("csv", "npz"), ("npz", "csv")):
        out = tmp_path / form
        assert run("prepare", "--dataset", prepared / other, "--format", form, "--out", out) == 0
        for path in out.iterdir():
            assert path.read_bytes() == (prepared / form / path.name).read_bytes()


def test_finished_pairs_cannot_be_paired_again(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--pairing", "balanced", "--out", tmp_path / "out")
    assert run("prepare", "--dataset", prepared / "csv", *options) == 2
    assert_refused(capsys, "--pairing", str(prepared / "csv"), "finished pairs", "leave it out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mnist_train.csv", "mnist_test.csv"])
def test_nothing_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_text("mine")
    # The data set does not exist, which nobody may have noticed.
    assert run("prepare", "--dataset", "/does/not/exist", "--out", tmp_path) == 1
    assert_refused(capsys, f"{tmp_path / name}: already exists", "--out")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_place_that_cannot_be_written_to(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    assert run("prepare", "--dataset", folder, "--out", tmp_path / "file" / "below") == 1
    assert_refused(capsys, "file: is not a folder", "--out")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(npz_pairs, "write", full)
    options = ("--format", "npz", "--out", tmp_path / "new")
    assert run("prepare", "--dataset", folder, *options) == 1
    assert_refused(capsys, "new: cannot be written (No space left", "make room", "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["train", "prepare"])
@pytest.mark.parametrize("form", ["csv", "npz", "file", "nothing"])
def test_bad_data_are_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, form: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    bad = {
        "csv": data / "mnist_train.csv",
        "npz": data / "mnist_compressed.npz",
        "file": data / "one.csv",
        "nothing": data,
    }[form]
    if form != "nothing":
        bad.write_bytes(b"label,p0\n1,2\n")
    given = bad if form == "file" else data
    assert run(command, "--dataset", given, "--out", tmp_path / "out") == 1
    assert_refused(capsys, f"{bad}: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", ["csv", "npz", "npz/mnist_compressed.npz"])
def test_training_on_finished_pairs(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    dataset = prepared / given
    assert run("train", "--dataset", dataset, "--out", tmp_path / "run", *QUICK) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("finished pairs" in line for line in lines) == 1
    assert "split by pair" in lines[0]
    assert "though the recipe's pairing is fresh" in lines[0]
    assert "200 training, 40 dev and 80 test pairs" in lines[1]
    assert len(read_history(tmp_path / "run" / "history.csv")) == 2

    assert run("evaluate", tmp_path / "run") == 0
    assert lines[-1].startswith(capsys.readouterr().out.splitlines()[-1])


def test_a_recipe_with_fixed_pairs_has_nothing_to_explain(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--recipe", "reference", *QUICK, "--epochs", 1, "--dev-size", 0)
    assert load_recipe("reference").pairing == "fixed"
    assert run("train", "--dataset", prepared / "csv", "--out", tmp_path / "run", *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "finished pairs" in lines[0]
    assert "fresh" not in lines[0]
    assert "240 training, no dev and 80 test pairs" in lines[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("form", ["csv", "npz"])
def test_a_signal_while_writing_leaves_nothing(
    form: str,
    number: signal.Signals,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = {"csv": csv_pairs, "npz": npz_pairs}[form]
    write = module.write

    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(number)
        return write(*arguments)

    monkeypatch.setattr(module, "write", interrupted)
    out = tmp_path / "out"
    code = run("prepare", "--dataset", folder, "--format", form, "--out", out)
    assert code == 128 + number
    assert not out.exists()
    assert_refused(capsys, "nothing was written")
