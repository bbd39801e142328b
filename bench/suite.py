"""What the pytest-benchmark suites share: who takes part, and how one is verified and measured.

These run in one process, to look at one thing at a time; ratios to publish come from report.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import timing
import worker
from workloads import Array, Builders, Workload, verify

THREADS = os.cpu_count() or 1


@cache
def _library(name: str) -> tuple[Builders, Callable[[int], object]]:
    return worker.library(name)


@cache
def _peak(threads: int) -> float:
    return timing.fma_peak(threads)


def contenders(
    workloads: Sequence[Workload], libraries: Sequence[str] = worker.LIBRARIES
) -> pytest.MarkDecorator:
    """Parametrise a test by workload, library and mode."""
    return pytest.mark.parametrize(
        ("workload", "library", "mode"),
        [
            pytest.param(
                workload,
                library,
                mode,
                id=f"{workload.name}-{library}" + (f" {mode}" if mode != library else ""),
                # torch.compile uses what PyTorch itself deprecates.
                marks=[pytest.mark.filterwarnings("default")] if "compile" in mode else [],
            )
            for workload in workloads
            for library in libraries
            for mode in _library(library)[0][workload.operation]
        ],
    )


@lru_cache(maxsize=1)
def _expected(workload: Workload) -> dict[str, Array]:
    """What PyTorch computes; the tests of a workload follow each other."""
    build = next(iter(_library("torch")[0][workload.operation].values()))
    return build(*workload.sizes).outputs()


def measure(benchmark: BenchmarkFixture, workload: Workload, library: str, mode: str) -> None:
    """Verify against PyTorch, then benchmark; rates go to the extra information."""
    build, limit = _library(library)
    threads = 1 if workload.serial else THREADS
    worker.set_threads(_library("torch")[1], threads)
    worker.set_threads(limit, threads)
    subject = build[workload.operation][mode](*workload.sizes)
    verify(workload, f"{library} {mode}", subject.outputs(), _expected(workload))
    benchmark(subject.run)
    if benchmark.stats is None:  # --benchmark-disable
        return
    seconds = benchmark.stats.stats.median
    if workload.flops:
        rate = workload.flops / seconds / 1e9
        benchmark.extra_info["GFLOP/s"] = round(rate, 1)
        if library == "mnist100":
            benchmark.extra_info["share of the FMA peak"] = round(rate / _peak(threads), 3)
    if workload.moved:
        benchmark.extra_info["GB/s"] = round(workload.moved / seconds / 1e9, 1)
