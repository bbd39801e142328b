"""A training step: forward, loss, backward and Adam on a batch of 256."""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

from suite import contenders, measure
from workloads import STEP, Workload


@contenders([STEP])
def test_step(benchmark: BenchmarkFixture, workload: Workload, library: str, mode: str) -> None:
    measure(benchmark, workload, library, mode)
