"""What a compiler does not check of the CUDA sources."""

from __future__ import annotations

import re
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "csrc" / "cuda"
KERNEL = re.compile(
    r"__global__ void(?: __launch_bounds__\([^)]*\))?\s+(\w+)\((?:[^()]|\([^()]*\))*\)\s*\{\s*(\S+)"
)


def test_every_kernel_awaits_the_one_before_it() -> None:
    texts = [path.read_text() for path in sorted(SOURCES.glob("*.cu*"))]
    kernels = [found for text in texts for found in KERNEL.findall(text)]
    assert len(kernels) == sum(text.count("__global__ ") for text in texts) > 40
    assert {first for _, first in kernels} == {"await_previous();"}, kernels
