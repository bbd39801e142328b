"""What a run says of itself: config.toml, JSON lines and TensorBoard's event files."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import struct
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

import mnist100
from mnist100._config import config
from mnist100.cli import main
from mnist100.data import DigitSet, PairSet, Splits, checksum
from mnist100.training import EpochRecord, RecipeError, load_recipe, read_history
from mnist100.training.history import write_history_lines
from mnist100.training.provenance import data_checksums, environment
from mnist100.training.tensorboard import TensorBoardLog
from runs import easy_digits, easy_splits, write_idx

RECORDS = [
    EpochRecord(1, 1 / 3, 0.1, None, 1e-17, 2.5, 1e6 / 3),
    EpochRecord(2, 0.1 + 0.2, 0.9, 0.875, 1e-3, 2.0, 7.0),
]


def test_json_lines_are_the_history(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    write_history_lines(path, RECORDS)
    lines = path.read_text().splitlines()
    assert [EpochRecord(**json.loads(line)) for line in lines] == RECORDS
    assert json.loads(lines[0])["dev_acc"] is None


def test_a_checksum_is_that_of_the_bytes() -> None:
    digits = easy_digits(20, 1)
    content = digits.images.tobytes() + digits.labels.tobytes()
    assert checksum(digits) == hashlib.sha256(content).hexdigest()
    table = np.array([[0, 1], [2, 3]], np.int32)
    pairs = hashlib.sha256(content + table.tobytes()).hexdigest()
    assert checksum(PairSet(digits, table)) == pairs


def test_a_checksum_sees_every_change() -> None:
    digits = easy_digits(20, 1)
    images, labels = digits.images.copy(), digits.labels.copy()
    images[3, 4, 5] ^= 1
    labels[7] = (labels[7] + 1) % 10
    others = [DigitSet(images, digits.labels), DigitSet(digits.images, labels), easy_digits(19, 1)]
    assert len({checksum(one) for one in [digits, *others]}) == 4


def test_every_split_has_its_checksum() -> None:
    splits = easy_splits()
    assert splits.dev is not None
    assert data_checksums(splits) == {
        "train_sha256": checksum(splits.train),
        "dev_sha256": checksum(splits.dev),
        "test_sha256": checksum(splits.test),
    }
    assert "dev_sha256" not in data_checksums(Splits(splits.train, None, splits.test))


def test_the_environment_is_this_process() -> None:
    mnist100.set_num_threads(3)
    facts = environment("native")
    assert facts["threads"] == 3
    assert facts["isa"] == config()["isa"]
    assert facts["numpy"] == np.__version__
    assert facts["python"] == platform.python_version()
    assert facts["mnist100"] == mnist100.__version__
    assert "torch" not in facts
    assert str(environment("torch")["torch"]).startswith("2.")


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with ``--log tensorboard``, made by a command with a name to quote."""
    folder = tmp_path_factory.mktemp("logged")
    write_idx(folder / "data", easy_splits())
    out = folder / "a run"
    assert main.main(train_arguments(folder / "data", out, "--log", "tensorboard")) == 0
    return out


def train_arguments(data: Path, out: Path, *more: str) -> list[str]:
    quick = ["--recipe", "reference", "--model", "mlp", "--epochs", "2", "--batch-size", "64"]
    return ["train", "--dataset", str(data), "--out", str(out), *quick, *more]


def test_config_tells_how_to_do_it_again(logged: Path, tmp_path: Path) -> None:
    facts = tomllib.loads((logged / "config.toml").read_text())
    assert facts["command"].startswith("mnist100 train --dataset ")
    assert f"--out '{logged}' --recipe reference --model mlp" in facts["command"]
    assert facts["log"] == "tensorboard"
    assert facts["environment"] == environment("native")
    again = tmp_path / "again"
    arguments = ["--dataset", facts["dataset"], "--seed", str(facts["seed"])]
    recipe = ["--recipe", str(logged / "config.toml")]
    assert main.main(["train", "--out", str(again), *arguments, *recipe]) == 0
    assert (again / "model.npz").read_bytes() == (logged / "model.npz").read_bytes()
    other = tomllib.loads((again / "config.toml").read_text())
    assert (other["recipe"], other["data"]) == (facts["recipe"], facts["data"])


def test_a_config_is_a_recipe_and_its_other_tables_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("seed = 3\nodd = 1\n[recipe]\nepochs = 7\n[environment]\nisa = 'v9'\n")
    assert load_recipe(path) == load_recipe("default").replace(epochs=7)
    path.write_text("[recipe]\nepoch = 7\n")
    with pytest.raises(RecipeError, match=r"config\.toml: epoch: unknown key"):
        load_recipe(path)
    path.write_text("epochs = 7\n[environment]\nisa = 'v9'\n")
    with pytest.raises(RecipeError, match="environment: unknown key"):
        load_recipe(path)


def events(folder: Path) -> Iterator[event_pb2.Event]:
    """Every event in the files of a folder, oldest first, without their checksums."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack_from("<Q", content)
            yield event_pb2.Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_tensorboard_has_every_epoch(logged: Path) -> None:
    history = read_history(logged / "history.csv")
    found = scalars(logged / "tensorboard")
    assert found["loss"] == pytest.approx({one.epoch: one.loss for one in history})
    assert found["accuracy/dev"] == pytest.approx({one.epoch: one.dev_acc for one in history})
    assert set(found) == {
        "loss",
        "accuracy/train",
        "accuracy/dev",
        "learning_rate",
        "images_per_second",
    }


def test_tensorboard_goes_on_and_hides_what_is_repeated(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path, 1)
    log.add(RECORDS[0])
    log.close()
    assert "accuracy/dev" not in scalars(tmp_path)
    first = {path.name for path in tmp_path.iterdir()}
    log = TensorBoardLog(tmp_path / "next", 2)
    log.add(RECORDS[1])
    log.close()
    assert {path.name for path in tmp_path.iterdir()} == first | {"next"}
    starts = [
        event.step
        for event in events(tmp_path / "next")
        if event.session_log.status == event_pb2.SessionLog.START
    ]
    assert starts == [2]


def test_a_missing_extra_is_told_before_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboardX" else real(name)
    )
    arguments = train_arguments(tmp_path / "nothing", tmp_path / "run", "--log", "tensorboard")
    assert main.main(arguments) == 1
    error = capsys.readouterr().err
    assert "--log tensorboard needs the package tensorboardX: pip install" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
