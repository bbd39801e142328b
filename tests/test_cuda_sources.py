"""What a compiler does not check of the CUDA sources."""

from __future__ import annotations

import re
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "csrc" / "cuda"
KERNEL = re.compile(
    r"__global__ void(?: __launch_bounds__\([^)]*\))?\s+(\w+)\((?:[^()]|\([^()]*\))*\)\s*\{(.*?)^\}",
    re.DOTALL | re.MULTILINE,
)
# They first read what no kernel directly before them writes.
EARLY = {"band_product_kernel", "linear_loss_kernel", "update_kernel"}


def test_every_kernel_awaits_the_one_before_it() -> None:
    texts = [path.read_text() for path in sorted(SOURCES.glob("*.cu*"))]
    kernels = [found for text in texts for found in KERNEL.findall(text)]
    assert len(kernels) == sum(text.count("__global__ ") for text in texts) > 40
    begin_otherwise = {
        name for name, body in kernels if not body.lstrip().startswith("await_previous();")
    }
    assert begin_otherwise == EARLY
    for name, body in kernels:
        assert body.count("\n  await_previous();\n") == 1, name
