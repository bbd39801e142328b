"""Fixtures that every test may use; each puts back what it changed, so order does not matter."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cases import SLOW_IN_EMULATION
from mnist100 import _core
from mnist100.modelfile import save_model
from model_files import trained
from support import isa

# A shell's background jobs may start with SIGINT ignored; the programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Its pool of threads would compete with the kernels' own.
torch.set_num_threads(1)

TENSOR_CORES = ("cuda_tf32", "cuda_bf16")  # they round what they multiply

EXACT_VARIANTS = [name for name in _core.isas() if name != "reference"]
VARIANTS = [name for name in EXACT_VARIANTS if name not in TENSOR_CORES]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what only `.ci/full` runs."""
    for item in items:
        shape = item.callspec.params.get("shape") if hasattr(item, "callspec") else None
        if "[cuda" in item.name and shape in SLOW_IN_EMULATION:
            item.add_marker("full")


@contextmanager
def _in_use(name: str) -> Iterator[str]:
    if name not in _core.supported_isas():
        pytest.skip(f"this machine cannot run {name}")
    with isa(name):
        yield name


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that is built, in use while the test runs; skipped where this CPU lacks it."""
    with _in_use(request.param) as name:
        yield name


@pytest.fixture(params=EXACT_VARIANTS)
def exact_variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every variant, and tensor cores: for small whole numbers, which they need not round."""
    with _in_use(request.param) as name:
        yield name


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = _core.num_threads()
    yield
    _core.set_num_threads(before)


@pytest.fixture(scope="session")
def _saved_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "once.npz"
    save_model(trained(), path)
    return path


@pytest.fixture
def saved(_saved_once: Path, tmp_path: Path) -> Path:
    """A model file of one's own to spoil."""
    path = tmp_path / "model.npz"
    path.write_bytes(_saved_once.read_bytes())
    return path
