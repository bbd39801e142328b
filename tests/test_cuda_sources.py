"""What a compiler does not check of the CUDA sources."""

from __future__ import annotations

import re
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "csrc" / "cuda"
KERNEL = re.compile(
    r"__global__ void(?: __launch_bounds__\([^)]*\))?\s+(\w+)\((?:[^()]|\([^()]*\))*\)\s*\{\s*(\S+)"
)

EARLY = {
    "linear_loss_kernel"
}  # reads first what an earlier kernel than the one before it has written


def test_every_kernel_awaits_the_one_before_it() -> None:
    texts = [path.read_text() for path in sorted(SOURCES.glob("*.cu*"))]
    kernels = [found for text in texts for found in KERNEL.findall(text)]
    assert len(kernels) == sum(text.count("__global__ ") for text in texts) > 40
    late = {name for name, first in kernels if first != "await_previous();"}
    assert late == EARLY
    for name in EARLY:
        (text,) = (text for text in texts if f"{name}(" in text)
        assert text.count("await_previous();") == 1 == text.count("__global__ ")
