"""The commands as a person runs them: in a process of their own, on real digits, but few."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import shlex
import signal
import struct
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import mnist100
from commands import assert_one_line, mnist, mnist_here, signalled
from mnist100.calibration import calibrate
from mnist100.cli import console, info, main
from mnist100.data import digits8x8, load_source
from mnist100.evaluation import ClassResult, Evaluation
from mnist100.training import EpochRecord, EpochReport, StepReport, load_recipe, read_history
from support import PATIENCE

QUICK = ("--model", "mlp", "--epochs", "2", "--batch-size", "64", "--threads", "2")


def write_idx(folder: Path, images: Any, labels: Any, stem: str) -> None:
    head = struct.pack(">IIII", 0x803, *images.shape)
    (folder / f"{stem}-images-idx3-ubyte").write_bytes(head + images.tobytes())
    content = struct.pack(">II", 0x801, len(labels)) + labels.tobytes()
    (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An IDX folder with 240 training and 80 test digits."""
    train, test = digits8x8.load_digits()
    path = tmp_path_factory.mktemp("idx")
    write_idx(path, train.images[:240], train.labels[:240], "train")
    write_idx(path, test.images[:80], test.labels[:80], "t10k")
    return path


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that other tests look at, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "small"
    result = mnist("train", *arguments_of(folder, out))
    assert (result.returncode, result.stderr) == (0, "")
    return out, result.stdout


def arguments_of(folder: Path, out: Path) -> list[str]:
    """What the run `trained` was started with."""
    return ["--dataset", str(folder), "--out", str(out), "--seed", "3", *QUICK]


def test_train_leaves_a_whole_run(trained: tuple[Path, str], folder: Path) -> None:
    out, printed = trained
    names = sorted(path.name for path in out.iterdir())
    assert names == [
        "config.toml",
        "curves.png",
        "history.csv",
        "history.jsonl",
        "last.npz",
        "model.npz",
    ]
    assert len(read_history(out / "history.csv")) == 2
    settings = tomllib.loads((out / "config.toml").read_text())
    changes = {"model": "mlp", "epochs": 2, "batch_size": 64}
    environment, data = settings.pop("environment"), settings.pop("data")
    assert environment["threads"] == 2
    assert sorted(data) == ["dev_sha256", "test_sha256", "train_sha256"]
    assert settings == {
        "command": shlex.join(["mnist100", "train", *arguments_of(folder, out)]),
        "dataset": str(folder),
        "seed": 3,
        "dev_size": 40,
        "backend": "native",
        "device": "cpu",
        "recipe": load_recipe("default").replace(**changes).as_dict(),
    }
    metadata = mnist100.load_model(out).metadata
    facts = ("architecture", "clip", "dataset", "dev_accuracy", "recipe", "seed", "version")
    assert set(facts) <= set(metadata)
    lines = printed.splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert all(f"on {folder}" in line for line in lines if "%" in line)
    assert lines[-1].startswith("Test accuracy: ")
    assert lines[-1].endswith(f"mnist100 evaluate {out}")


def test_evaluate_agrees_with_train(trained: tuple[Path, str], folder: Path) -> None:
    out, printed = trained
    result = mnist("evaluate", out, "--topk", 3)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert printed.splitlines()[-1].startswith(lines[-1])
    hardest = lines[lines.index(f"Hardest classes on {folder} (lowest accuracy):") + 1 : -3]
    assert len(hardest) == 3
    value = json.loads(mnist("evaluate", out / "model.npz", "--json").stdout)
    low, high = value["interval"]
    assert lines[-1] == (
        f"Test accuracy: {100 * value['accuracy']:.2f}% ({value['correct']}/80), "
        f"95% interval {100 * low:.2f}–{100 * high:.2f}%, on {folder}"
    )
    assert value["dataset"] == str(folder)
    assert [one["label"] for one in value["per_class"]] == list(range(100))
    assert len(value["hardest"]) == 5


def test_evaluate_draws_and_never_overwrites(
    trained: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "pictures"
    assert main.main(["evaluate", str(trained[0]), "--plots", str(folder), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    names = ["confusion.png", "mistakes.png"]
    assert value["plots"] == [str(folder / name) for name in names]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert main.main(["evaluate", str(trained[0]), "--plots", str(folder)]) == 1
    assert "confusion.png: exists already; give another --plots" in capsys.readouterr().err


def test_evaluate_tells_digits_and_calibration(
    trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["evaluate", str(trained[0])]) == 0
    text = capsys.readouterr().out
    for part in ("Accuracy by class", "Accuracy by digit", "Calibration on", "ECE, 15 bins"):
        assert part in text


def test_json_is_alone_on_standard_output(folder: Path, tmp_path: Path) -> None:
    arguments = ("--dataset", folder, "--dev-size", 0, "--json", *QUICK, "--epochs", 1)
    result = mnist("train", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    value = json.loads(result.stdout)
    assert 0 <= value["accuracy"] == value["correct"] / value["total"] <= 1
    assert value["total"] == 80
    assert value["dev_accuracy"] is None
    assert value["out"] == os.path.join("runs", "mlp-1")
    assert (tmp_path / "runs" / "mlp-1" / "model.npz").exists()
    assert "Test accuracy" in result.stderr
    assert "no dev set" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "wants"),
    [
        ("--epochs", "0", "a whole number from 1"),
        ("--epochs", "many", "a whole number from 1"),
        ("--batch-size", "-1", "a whole number from 1"),
        ("--learning-rate", "nan", "a finite number above 0"),
        ("--reg-lambda", "-1", "a number of at least 0"),
        ("--dropout", "1", "below 1"),
        ("--patience", "0", "a whole number from 1"),
        ("--min-delta", "x", "a number of at least 0"),
        ("--dev-size", "-5", "a whole number from 0"),
        ("--seed", "-1", "a whole number from 0"),
        ("--threads", "0", "a whole number from 1"),
        ("--model", "resnet", "cnn or mlp"),
        (
            "--recipe",
            "refrence",
            "default, reference, fast, cnn-best, best or an existing TOML file",
        ),
        ("--out", "", "a folder"),
        ("--dataset", "", "auto, mnist, digits or a folder"),
    ],
)
def test_a_wrong_value_is_refused_before_data_are_read(
    option: str, value: str, wants: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # In this process, for speed. The data set does not exist, which nobody may have noticed.
    with pytest.raises(SystemExit) as caught:
        main.main(["train", "--dataset", "/does/not/exist", option, value])
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"mnist100 train: error: argument {option}: got '{value}', wants ")
    assert wants in output.err
    assert output.err.count("\n") == 1


def test_wrong_usage_ends_with_2(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_line(mnist(), 2, "COMMAND")
    assert_one_line(mnist_here("train", "--epoch", 3), 2, "unrecognized arguments: --epoch")
    too_large = mnist_here("train", "--dataset", folder, "--dev-size", 240)
    assert_one_line(too_large, 2, "argument --dev-size: got 240")
    precision = mnist_here("train", "--dataset", folder, "--precision", "bf16")
    assert_one_line(precision, 2, "argument --precision: got bf16 with the native backend on cpu")
    widths = mnist_here("train", "--dataset", folder, "--model", "mlp", "--channels", "16")
    assert_one_line(widths, 2, "argument --channels: got 16 with --model mlp")
    assert not list(tmp_path.iterdir())


def test_a_run_is_never_overwritten(trained: tuple[Path, str]) -> None:
    result = mnist_here("train", "--dataset", "/does/not/exist", "--out", trained[0])
    assert_one_line(result, 1, "already holds a run", "give another --out")


def test_failures_are_one_line_unless_debug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_line(mnist_here("evaluate", tmp_path), 1, str(tmp_path), "no model.npz")
    missing = ("train", "--dataset", "/does/not/exist")
    assert_one_line(mnist_here(*missing), 1, "/does/not/exist")
    assert not list(tmp_path.iterdir())
    debug = mnist(*missing, "--debug")
    assert debug.returncode == 1
    assert "Traceback (most recent call last)" in debug.stderr


def test_what_the_import_refuses_is_one_line_too() -> None:
    code = "import sys, mnist100_command; sys.exit(mnist100_command.main())"
    result = subprocess.run(
        [sys.executable, "-c", code, "info"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "MNIST100_ISA": "avx9000"},
    )
    assert_one_line(result, 1, "MNIST100_ISA: got 'avx9000'", "baseline")


def test_a_folder_that_cannot_be_made_is_one_line(folder: Path) -> None:
    below_a_file = folder / "t10k-images-idx3-ubyte" / "run"
    result = mnist("train", "--dataset", folder, "--out", below_a_file)
    assert_one_line(result, 1, "is not a folder", "--out")


def test_a_full_disk_is_one_line_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    out = tmp_path / "run"
    result = mnist("train", "--dataset", folder, "--out", out, *QUICK, preexec_fn=small_files)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    for part in (str(out), "cannot be written", "--out", "nothing was kept"):
        assert part in result.stderr
    assert not out.exists()


def test_a_hopeless_rate_is_diagnosed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("--dataset", folder, "--out", out, *QUICK, "--learning-rate", 1e38)
    result = mnist("train", *arguments)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    for part in ("in epoch 1, step", "try a smaller learning rate", "nothing was kept"):
        assert part in result.stderr
    assert not out.exists()


def test_ctrl_c_ends_with_130_and_says_what_is_kept(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("train", "--dataset", folder, "--out", out, *QUICK)
    code, errors = signalled(*command, at="epoch 1/2")
    assert code == 130
    assert errors.count("\n") == 1
    assert f"interrupted: go on with: mnist100 train --resume --out {out}" in errors
    best = mnist100.load_model(out).metadata["epoch"]
    assert 1 <= best <= len(read_history(out / "history.csv"))


def test_a_reader_who_leaves_is_not_an_error(trained: tuple[Path, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "mnist100", "evaluate", str(trained[0])]
    result = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=PATIENCE
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, b"")


def test_a_terminal_without_dashes_still_works(trained: tuple[Path, str]) -> None:
    settings = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = mnist("evaluate", trained[0], env=settings)
    assert result.returncode == 0, result.stderr
    assert "95% interval" in result.stdout


def test_info_version_and_help() -> None:
    facts = json.loads(mnist("info", "--json").stdout)
    assert facts["version"] == mnist100.__version__
    text = mnist("info").stdout
    assert facts["compiler"] in text
    assert mnist("--version").stdout == f"mnist100 {mnist100.__version__}\n"
    found = mnist("--help").stdout
    for command in main.COMMANDS:
        assert command in found


def test_help_does_not_import_what_only_commands_need() -> None:
    code = (
        "import sys; from mnist100.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'rich', 'sklearn', 'matplotlib', 'optuna', 'pooch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.endswith("\n[]\n")


def make_evaluation() -> Evaluation:
    counts = {29: (92, 102), 97: (99, 106), 5: (0, 0)}
    classes = tuple(ClassResult(label, *counts.get(label, (1, 1))) for label in range(100))
    digits = (ClassResult(0, 990, 1000), ClassResult(1, 0, 0))
    calibration = calibrate(np.array([0.5, 0.9]), np.array([True, True]))
    return Evaluation(9788, 10000, (0.9758, 0.9814), classes, digits, digits, calibration)


def test_results_read_as_the_origin_wrote_them() -> None:
    result = make_evaluation()
    line = console.accuracy_line(result, "mnist")
    assert line == "Test accuracy: 97.88% (9788/10000), 95% interval 97.58–98.14%, on mnist"
    hardest = [console.class_line(one) for one in result.hardest(2)]
    assert hardest == [
        "29: 90.20% (92/102)",
        "97: 93.40% (99/106)",
    ]
    assert console.class_line(ClassResult(7, 0, 0)) == "07: – (0/0)"
    line = console.calibration_line(make_evaluation(), "mnist")
    assert line == (
        "Calibration on mnist: expected error (ECE, 15 bins) 30.00%, mean confidence 70.00%"
    )


def test_the_class_table_is_tens_by_ones() -> None:
    table = [line.split() for line in console.class_table(make_evaluation())]
    assert table[0] == [str(ones) for ones in range(10)]
    assert table[5][0] == "2"
    assert table[5][10] == "90.2"
    assert table[6][9] == "82–95"
    assert table[1][6] == "–"
    assert len(table[2]) == 9  # no interval for the class that is not there
    digits = [line.split() for line in console.digit_table(make_evaluation())]
    assert digits[0] == ["left", "right"]
    assert digits[1] == ["0", *["99.00%", "(98.2–99.5%)"] * 2]
    assert digits[2] == ["1", "–", "–"]


def test_a_stand_in_for_mnist_says_so() -> None:
    source = load_source("digits")
    assert console.name_of(source) == "digits"
    object.__setattr__(source, "notice", "MNIST could not be had")
    assert console.name_of(source) == "digits (not MNIST)"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(terminal: bool) -> None:
    file = io.StringIO()
    screen = Console(file=file, force_terminal=terminal, width=120, highlight=False, _environ={})
    display = console.TrainingDisplay(screen, "digits")
    record = EpochRecord(1, 0.5, 0.8, 0.75, 1e-3, 2.0, 1234.0)
    with display.running():
        display.on_epoch(EpochReport(record, 20, best=True))
        display.on_step(StepReport(2, 20, 5, 10, 0.25, 1e-3, 4321.0))
    text = file.getvalue()
    line = "epoch  1/20  loss 0.5000  train 80.00%  dev 75.00% on digits  2.0 s  1,234 images/s"
    assert line in text
    for part in ("epoch 2/20", "loss 0.2500", "accuracy dev 75.00%", "4,321 images/s", "left"):
        assert (part in text) == terminal
    if not terminal:
        assert text == f"{line}  best so far\n"


def test_sigterm_raises_so_that_files_begun_are_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(info, "run", lambda _: signal.raise_signal(signal.SIGTERM))
    assert main.main(["info"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "mnist100: interrupted: nothing was written\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
