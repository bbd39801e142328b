"""Arrays live in recycled memory: training asks the system for it once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from mnist100 import _core
from mnist100 import functional as F  # noqa: N812
from mnist100.models import ARCHITECTURES
from mnist100.optim import Adam, ExponentialAverage
from mnist100.training.step import train_step
from support import draws


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_training_step_allocates_nothing_after_the_first(variant: str, architecture: str) -> None:
    model = ARCHITECTURES[architecture]()
    optimizer = Adam(model.parameters(), reg_lambda=0.1)
    average = ExponentialAverage(model.tensors(), 0.9)
    x, labels = draws(64, 1, 28, 56), np.arange(64) % 100

    def step() -> None:
        train_step(model, optimizer, x, labels)
        average.update()

    step()
    before = _core.blocks_taken()
    tracemalloc.start()
    try:
        for _ in range(5):
            step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert _core.blocks_taken() == before
    # Of Python and NumPy: array objects, no array's contents. One hidden layer's would be 64 KiB.
    assert peak < 48 * 1024


def test_evaluation_allocates_nothing_after_the_first(variant: str) -> None:
    model = ARCHITECTURES["cnn"]()
    x = draws(64, 1, 28, 56)
    model(x)
    before = _core.blocks_taken()
    for _ in range(5):
        model(x)
    assert _core.blocks_taken() == before


def test_memory_goes_back_when_its_last_view_is_gone() -> None:
    x = np.ones(100_000, np.float32)
    first = F.relu(x)
    assert first.ctypes.data % 64 == 0
    view, address = first[5:], first.ctypes.data
    del first
    second = F.relu(2 * x)
    assert second.ctypes.data != address
    assert (view == 1).all()
    del view
    assert F.relu(x).ctypes.data == address
    assert (second == 2).all()


def test_what_is_kept_is_bounded() -> None:
    before = _core.blocks_taken()
    held = [F.relu(np.ones(5000 + 1000 * i, np.float32)) for i in range(400)]
    held.clear()
    again = F.relu(np.ones(5000, np.float32))  # one of the oldest of more than 256
    assert again.shape == (5000,)
    assert _core.blocks_taken() > before + 100


def test_sizes_beyond_any_memory() -> None:
    for n, out in ((2**30, 2**30), (2**46, 2**46)):  # the second overflows a count of bytes
        with pytest.raises(MemoryError):
            _core.linear(np.empty((n, 0), np.float32), np.empty((out, 0), np.float32), None)
