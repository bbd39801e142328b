"""A model with a file, ways to spoil the file, and how that is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mnist100
from mnist100 import models
from mnist100.data import Normalisation
from mnist100.modelfile import ModelFileError
from mnist100.models import Model
from support import assert_same, draws

Arrays = dict[str, Any]


def trained(architecture: str = "cnn") -> Model:
    model = models.ARCHITECTURES[architecture](seed=4)
    for t in model.tensors():
        t.value[...] = draws(*t.value.shape)
        if t.name.endswith("_var"):
            t.value[...] **= 2
    rng = np.random.default_rng(0)
    mean, std = rng.random((2, 28, 56)).astype(np.float32)
    model.normalisation = Normalisation(mean, std + np.float32(0.1), 2.5)
    model.metadata = {"recipe": "default", "seed": 4, "name": "naïve ✓"}
    return model


def contents(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def rewrite(path: Path, **changes: object) -> None:
    """The same file with some entries changed, or left out where None."""
    arrays = {k: v for k, v in (contents(path) | changes).items() if v is not None}
    np.savez(path, **arrays)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        mnist100.load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for word in words:
        assert word in message, message


def assert_same_model(model: Model, other: Model) -> None:
    for p, q in zip(model.tensors(), other.tensors(), strict=True):
        assert p.name == q.name
        assert_same(p.value, q.value)
    a, b = model.normalisation, other.normalisation
    assert a is not None
    assert b is not None
    assert_same((a.mean, a.std, a.clip), (b.mean, b.std, b.clip))
