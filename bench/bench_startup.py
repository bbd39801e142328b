"""Fresh processes: the imports and `mnist100 --help`, and what a bare interpreter takes."""

from __future__ import annotations

import subprocess

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from startup import STARTS, start


@pytest.mark.parametrize("name", STARTS)
def test_start(benchmark: BenchmarkFixture, name: str) -> None:
    printed = subprocess.run(STARTS[name], check=True, capture_output=True, text=True)
    assert ("train" in printed.stdout) == (name == "mnist100 --help")
    assert not printed.stderr
    benchmark(start, name)
