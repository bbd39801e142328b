"""What the tests share: repeatable arrays, the oracle, tolerances, programs of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mnist100 import _core

Array: TypeAlias = npt.NDArray[Any]
P = ParamSpec("P")
R = TypeVar("R")

PATIENCE = 120.0
"""Seconds that a test waits for what must come: only what hangs takes so long, on however busy a machine."""

EPS = float(np.finfo(np.float32).eps)


def draws(*shape: int, seed: int = 0, dtype: npt.DTypeLike = np.float32) -> Array:
    """Values from N(0, 1)."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def whole(*shape: int, seed: int = 0, dtype: npt.DTypeLike = np.float32) -> Array:
    """Whole numbers from -3 to 3.

    Sums of products of them are exact in float32 below 2^24, so in whatever order a kernel adds, it
    must agree with the oracle in every bit; and they give ties and zeros in plenty.
    """
    return np.random.default_rng([seed, *shape]).integers(-3, 4, shape).astype(dtype)


def skip_without_gpu(module: str) -> None:
    """Skip a module that trains on a GPU where there is none, nor an emulated one."""
    if "cuda" not in _core.supported_isas():
        pytest.skip(f"{module} needs a GPU, or its emulation", allow_module_level=True)


def browser() -> str | None:
    """Where a Chromium is that can be driven, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def until(holds: Callable[[], bool], pause: Callable[[float], object] = time.sleep) -> None:
    """Wait for something to hold; `pause` passes the seconds between two looks."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        pause(0.02)


@contextmanager
def isa(name: str) -> Iterator[None]:
    """An instruction set, or "reference", in use inside the block."""
    before = _core.isa()
    _core.set_isa(name)
    try:
        yield
    finally:
        _core.set_isa(before)


def oracle(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What the naive float32 loops of reference.cpp make of a call."""
    with isa("reference"):
        return function(*args, **kwargs)


def assert_sum_close(actual: Array, expected: Array | torch.Tensor, terms: int) -> None:
    """Equality but for rounding, of float32 sums of `terms` products of two draws from N(0, 1).

    Partial sum j has magnitude √j and rounds by at most half of eps·√j. Errors of random sign add up to
    √(Σ j·eps²/12) ≈ 0.2·eps·terms on either side; four eps a term is some ten deviations of the
    difference, and still far below one product that is missing (of size 1).
    """
    if isinstance(expected, torch.Tensor):
        expected = expected.detach().numpy()
    assert actual.dtype == expected.dtype
    eps = float(np.finfo(actual.dtype).eps)
    np.testing.assert_allclose(actual, expected, rtol=4 * eps, atol=4 * eps * max(terms, 1))


def assert_whole(actual: object, expected: object) -> None:
    """Equality of arrays of whole numbers, and None, but for what windows of 4×4 results may round.

    Their transforms have factors that are no sums of powers of two. What is off by a term is off by one at least.
    """
    if isinstance(expected, tuple):
        assert isinstance(actual, tuple)
        for one, other in zip(actual, expected, strict=True):
            assert_whole(one, other)
    elif isinstance(expected, np.ndarray):
        assert isinstance(actual, np.ndarray)
        np.testing.assert_array_equal(np.rint(actual), expected, strict=True)
        finite = np.isfinite(expected)
        np.testing.assert_allclose(actual[finite], expected[finite], rtol=0, atol=1e-2)
    else:
        assert actual is expected


def assert_same(actual: object, expected: object) -> None:
    """Equality of arrays, tuples of arrays or None, in every bit (NaN equals NaN) and dtype."""
    if isinstance(expected, tuple):
        assert isinstance(actual, tuple)
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert isinstance(actual, np.ndarray)
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected, strict=True)
    else:
        assert actual == expected


def tensor(array: Array, grad: bool = False) -> torch.Tensor:
    """A PyTorch copy."""
    return torch.from_numpy(np.array(array)).requires_grad_(grad)


def gradients(y: torch.Tensor, dy: Array, inputs: Sequence[torch.Tensor]) -> list[Array]:
    """PyTorch's gradients of y with respect to `inputs`, for the gradient dy at y."""
    found = torch.autograd.grad(y, list(inputs), tensor(dy), allow_unused=True)
    return [
        np.zeros(tuple(x.shape), dy.dtype) if g is None else g.numpy()
        for x, g in zip(inputs, found, strict=True)
    ]


def run_python(
    code: str, *options: str, cwd: Path | None = None, timeout: float = PATIENCE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that runs `code`; warnings are errors there too."""
    return subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", code],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
