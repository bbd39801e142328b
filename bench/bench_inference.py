"""Inference: a batch of 256 on all cores, and one image on one thread."""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

from suite import contenders, measure
from workloads import INFERENCE, LATENCY, Workload


@contenders([INFERENCE, LATENCY])
def test_inference(
    benchmark: BenchmarkFixture, workload: Workload, library: str, mode: str
) -> None:
    measure(benchmark, workload, library, mode)
