"""Training epochs with all that makes their batches, and the same steps on batches that lie ready."""

from __future__ import annotations

from dataclasses import replace

from pytest_benchmark.fixture import BenchmarkFixture

from suite import contenders, measure
from workloads import BATCH, EPOCH, Workload

SHORT = replace(EPOCH, name="epoch of 5 steps", sizes=(5 * BATCH,))


def _measure(benchmark: BenchmarkFixture, workload: Workload, library: str, mode: str) -> None:
    measure(benchmark, workload, library, mode)
    if benchmark.stats is not None:
        (pairs,) = workload.sizes
        benchmark.extra_info["images/s"] = round(int(pairs) / benchmark.stats.stats.median)


@contenders([EPOCH], ("mnist100", "torch"))
def test_epoch(benchmark: BenchmarkFixture, workload: Workload, library: str, mode: str) -> None:
    _measure(benchmark, workload, library, mode)


@contenders([SHORT])
def test_short_epoch(
    benchmark: BenchmarkFixture, workload: Workload, library: str, mode: str
) -> None:
    _measure(benchmark, workload, library, mode)
