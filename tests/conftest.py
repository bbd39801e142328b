"""Fixtures that every test may use; each puts back what it changed, so order does not matter."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mnist100 import _core
from mnist100.modelfile import save_model
from model_files import trained
from support import browser, isa

# Its pool of threads would compete with the kernels' own.
torch.set_num_threads(1)

TENSOR_CORES = ("cuda_tf32", "cuda_bf16")  # they round what they multiply

EXACT_VARIANTS = [name for name in _core.supported_isas() if name != "reference"]
VARIANTS = [name for name in EXACT_VARIANTS if name not in TENSOR_CORES]

# Training on a GPU: where there is one, or one is emulated.
collect_ignore = (
    []
    if "cuda" in VARIANTS
    else ["test_device.py", "test_device_arrays.py", "test_tensor_cores.py"]
)
# The page needs a browser to be tried in.
if not (browser() and importlib.util.find_spec("playwright")):
    collect_ignore.append("test_page.py")


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this CPU can run, in use while the test runs."""
    name: str = request.param
    with isa(name):
        yield name


@pytest.fixture(params=EXACT_VARIANTS)
def exact_variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every variant, and tensor cores: for small whole numbers, which they need not round."""
    name: str = request.param
    with isa(name):
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
