"""Model files: what is written and read back, and that a failed write harms nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mnist100
from mnist100 import models
from mnist100.modelfile import save_model
from model_files import Arrays, assert_same_model, contents, trained
from support import Array, assert_same


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_round_trip(tmp_path: Path, architecture: str) -> None:
    model = trained(architecture)
    model.test_shifts = 1
    save_model(model, tmp_path / "model.npz")
    for path in (tmp_path, tmp_path / "model.npz", str(tmp_path)):
        loaded = mnist100.load_model(path)
        assert loaded.architecture == architecture
        assert_same_model(loaded, model)
    facts = {"architecture": architecture, "clip": 2.5, "test_shifts": 1}
    assert loaded.metadata == model.metadata | facts
    raw = np.random.default_rng(0).integers(0, 256, (3, 28, 56)).astype(np.uint8)
    assert_same(loaded.predict_proba(raw), model.predict_proba(raw))
    save_model(loaded, tmp_path / "again.npz")
    assert_same_model(mnist100.load_model(tmp_path / "again.npz"), model)


@pytest.mark.parametrize("channels", [((16,),), ((3, 5), (20,)), ((8, 8, 8, 8),) * 4])
def test_widths_are_those_of_the_weights(
    tmp_path: Path, channels: tuple[tuple[int, ...], ...]
) -> None:
    model = models.siamese(channels=channels, seed=2)
    model.normalisation = trained().normalisation
    save_model(model, tmp_path / "model.npz")
    assert_same_model(mnist100.load_model(tmp_path), model)


def test_what_is_in_the_file(saved: Path) -> None:
    arrays, model = contents(saved), trained()
    facts = json.loads(str(arrays.pop("metadata")))
    assert facts == {**model.metadata, "architecture": "cnn", "clip": 2.5, "test_shifts": 0}
    assert {name: a.shape for name, a in arrays.items()} == {
        "conv1_W": (16, 1, 3, 3),
        "conv1_b": (16, 1),
        "conv2_W": (32, 16, 3, 3),
        "conv2_b": (32, 1),
        "fc1_W": (256, 3136),
        "fc1_b": (256, 1),
        "fc2_W": (100, 256),
        "fc2_b": (100, 1),
        "mean": (1568, 1),
        "std": (1568, 1),
    }
    assert all(a.dtype == np.float32 for a in arrays.values())
    assert_same(arrays["fc1_b"].ravel(), model.parameters()[5].value)


def test_a_file_without_metadata_is_the_origins(saved: Path) -> None:
    old: Arrays = {
        name: a.astype(np.float64) for name, a in contents(saved).items() if name != "metadata"
    }
    old["std"][:40] = 0
    np.savez(saved, **old)
    loaded = mnist100.load_model(saved)
    norm = loaded.normalisation
    assert norm is not None
    assert norm.clip == 0
    assert (norm.std.ravel()[:40] == np.float32(1e-8)).all()
    assert_same(norm.std.ravel()[40:], old["std"][40:, 0].astype(np.float32))
    assert loaded.architecture == "cnn"
    for p, q in zip(loaded.parameters(), trained().parameters(), strict=True):
        assert_same(p.value, q.value)


def test_compressed_files_are_read(saved: Path) -> None:
    np.savez_compressed(saved, **contents(saved))
    assert_same_model(mnist100.load_model(saved), trained())


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model\.npz here"):
        mnist100.load_model(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such run folder or model file"):
        mnist100.load_model(tmp_path / "nothing.npz")


def test_saving_needs_a_normalisation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^model.normalisation: got None"):
        save_model(models.cnn(), tmp_path / "model.npz")
    assert list(tmp_path.iterdir()) == []


def fail_halfway(file: Any, **_: Array) -> None:
    file.write(b"half of it")
    raise OSError(28, "No space left on device")


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    monkeypatch.setattr(np, "savez", fail_halfway)
    with pytest.raises(OSError, match="No space left"):
        save_model(trained("mlp"), saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_failed_rename_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    before = saved.read_bytes()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        save_model(trained(), saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_model(trained(), tmp_path / "no" / "model.npz")
