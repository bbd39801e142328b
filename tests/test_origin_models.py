"""Model files of the NumPy script that this project grew from: read, and used as it used them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import mnist100
from mnist100.cli.main import main
from runs import easy_splits, write_idx
from support import Array

SHAPES = {
    "conv1_W": (16, 1, 3, 3),
    "conv1_b": (16, 1),
    "conv2_W": (32, 16, 3, 3),
    "conv2_b": (32, 1),
    "fc1_W": (256, 3136),
    "fc1_b": (256, 1),
    "fc2_W": (100, 256),
    "fc2_b": (100, 1),
}


def script_arrays(dtype: type) -> dict[str, Array]:
    """What the script saved: trained-like weights and raw statistics, with pixels that never varied."""
    generator = np.random.default_rng(8)
    arrays: dict[str, Array] = {}
    for name, shape in SHAPES.items():
        scale = 0.1 if name.endswith("_b") else np.sqrt(2 / np.prod(shape[1:]))
        arrays[name] = (scale * generator.standard_normal(shape)).astype(dtype)
    arrays["mean"] = generator.uniform(0, 0.5, (1568, 1)).astype(dtype)
    arrays["std"] = generator.uniform(0.05, 0.4, (1568, 1)).astype(dtype)
    dead = generator.choice(1568, 164, replace=False)
    arrays["mean"][dead] = arrays["std"][dead] = 0
    return arrays


def script_logits(arrays: dict[str, Array], images: Array) -> Array:
    """The script's own forward pass, in float64 and loops over places: images uint8 (n, 28, 56)."""
    p = {name: value.astype(np.float64) for name, value in arrays.items()}
    flat = images.reshape(len(images), 1568).T / 255.0  # (1568, n), as the script laid its data out
    x = ((flat - p["mean"]) / np.maximum(p["std"], 1e-8)).T.reshape(-1, 1, 28, 56)
    for conv in ("conv1", "conv2"):
        w, b = p[f"{conv}_W"], p[f"{conv}_b"]
        n, _, height, width = x.shape
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        y = np.zeros((n, len(w), height, width)) + b.reshape(1, -1, 1, 1)
        for i in range(3):
            for j in range(3):
                window = padded[:, :, i : i + height, j : j + width]
                y += np.einsum("nchw,oc->nohw", window, w[:, :, i, j])
        y = np.maximum(y, 0)
        x = y.reshape(n, len(w), height // 2, 2, width // 2, 2).max(axis=(3, 5))
    a = x.reshape(len(x), -1).T
    a = np.maximum(p["fc1_W"] @ a + p["fc1_b"], 0)
    return np.asarray((p["fc2_W"] @ a + p["fc2_b"]).T)


def softmax(logits: Array) -> Array:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def pictures(arrays: dict[str, Array], lit: int) -> Array:
    """Random pictures; `lit` of them have ink where the training set never had any."""
    generator = np.random.default_rng(9)
    images = generator.integers(0, 256, (20, 28, 56)).astype(np.uint8)
    dead = (arrays["std"] == 0).reshape(28, 56)
    images[:, dead] = 0
    images[:lit, dead] = generator.integers(0, 2, (lit, int(dead.sum())))
    return images


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predicts_as_the_script_did(dtype: type, tmp_path: Path) -> None:
    arrays = script_arrays(dtype)
    np.savez(tmp_path / "trained_model_mnist100.npz", allow_pickle=False, **arrays)
    model = mnist100.load_model(tmp_path / "trained_model_mnist100.npz")
    images = pictures(arrays, lit=0)
    logits = script_logits(arrays, images)
    assert len(np.unique(logits.argmax(axis=1))) > 2
    np.testing.assert_array_equal(model.predict(images), logits.argmax(axis=1))
    np.testing.assert_allclose(model.predict_proba(images), softmax(logits), rtol=2e-3, atol=1e-5)


def test_nothing_is_clipped_and_the_floor_is_the_scripts(tmp_path: Path) -> None:
    """One lit pixel that never varied is 1/255 / 1e-8 = 4e5 to the network, here as there."""
    arrays = script_arrays(np.float32)
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    model = mnist100.load_model(tmp_path / "a.npz")
    assert model.normalisation is not None
    assert model.normalisation.clip == 0
    assert model.normalisation.std.min() == np.float32(1e-8)
    images = pictures(arrays, lit=20)
    logits = script_logits(arrays, images)
    assert np.abs(logits).max() > 1e4
    np.testing.assert_array_equal(model.predict(images), logits.argmax(axis=1))
    np.testing.assert_allclose(model.predict_proba(images), softmax(logits), atol=1e-3)


def test_every_command_that_takes_a_model_takes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "model.npz", allow_pickle=False, **script_arrays(np.float64))
    write_idx(tmp_path / "data", easy_splits())
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(tmp_path / "model.npz", run)
    answers = []
    for model in (tmp_path / "model.npz", run):
        assert main(["evaluate", str(model), "--dataset", str(tmp_path / "data")]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert "Test accuracy: " in answers[0]


def test_it_stays_what_it_was_when_it_is_saved_again(tmp_path: Path) -> None:
    arrays = script_arrays(np.float32)
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    model = mnist100.load_model(tmp_path / "a.npz")
    mnist100.modelfile.save_model(model, tmp_path / "b.npz")
    again = mnist100.load_model(tmp_path / "b.npz")
    images = pictures(arrays, lit=5)
    np.testing.assert_array_equal(again.predict_proba(images), model.predict_proba(images))
