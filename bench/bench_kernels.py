"""Every kernel of the network: `pytest bench/bench_kernels.py -k gemm`."""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

import live
from suite import contenders, measure
from workloads import CONVOLUTIONS, GEMMS, LAYERS, WINDOWS, Workload


@contenders([*GEMMS, *WINDOWS])
def test_kernel(benchmark: BenchmarkFixture, workload: Workload, library: str, mode: str) -> None:
    measure(benchmark, workload, library, mode)


@contenders(LAYERS)
def test_layer(benchmark: BenchmarkFixture, workload: Workload, library: str, mode: str) -> None:
    measure(benchmark, workload, library, mode)
    if workload.operation == "block_backward":
        shares = live.fractions(0)
        benchmark.extra_info["live fraction"] = round(shares[f"{workload.sizes[0]}, start"], 3)


@contenders(CONVOLUTIONS, ("mnist100", "torch"))  # NumPy would take minutes
def test_convolution(
    benchmark: BenchmarkFixture, workload: Workload, library: str, mode: str
) -> None:
    measure(benchmark, workload, library, mode)
