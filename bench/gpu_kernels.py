"""Tell how long each kernel of a training step takes on a GPU, as CUPTI sees it.

python bench/gpu_kernels.py --precision bf16    # needs a build with CUDA, and PyTorch with CUDA
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.profiler import ProfilerActivity, profile

import inputs
from mnist100.training.device import DeviceInputs, DeviceTrainer
from mnist100.training.tally import Tally
from results import table

STEPS = 20  # of the epoch that is looked at
KINDS = ("kernel", "gpu_memcpy", "gpu_memset")


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="bf16")
    parser.add_argument("--batch-size", type=int, default=256, help="(default: 256)")
    return parser.parse_args(arguments)


def short(name: str) -> str:
    """Return a kernel's name without namespaces, return type and parameters."""
    plain = re.sub(r"mnist100::cuda::|\(anonymous namespace\)::|^void ", "", name)
    return plain.split("(")[0]


def rows(events: Sequence[dict[str, Any]], steps: int) -> list[list[str]]:
    """A row a kernel, in the order of a step: launches a step, microseconds a step, blocks, registers.

    Parameters
    ----------
    events
        Of a Chrome trace: name, category, start and duration in microseconds.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for event in sorted(
        (one for one in events if one.get("cat") in KINDS), key=lambda one: float(one["ts"])
    ):
        found.setdefault(event["name"], []).append(event)
    return [
        [
            short(name),
            f"{len(of) / steps:.2f}",
            f"{sum(one['dur'] for one in of) / steps:.2f}",
            "×".join(str(extent) for extent in of[-1].get("args", {}).get("grid", [])),
            str(of[-1].get("args", {}).get("registers per thread", "")),
        ]
        for name, of in found.items()
    ]


def trace(precision: str, batch_size: int) -> list[dict[str, Any]]:
    """Train for two epochs, and record a third."""
    recipe = inputs.recipe(precision=precision, batch_size=batch_size, epochs=3)
    model = inputs.network(dropout=recipe.dropout)
    data = DeviceInputs(model, inputs.splits(batch_size * STEPS), recipe, inputs.SEED, 1)
    trainer = DeviceTrainer(model, recipe, data)
    trainer.train_epoch(Tally(1))
    trainer.train_epoch(Tally(2))
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        trainer.train_epoch(Tally(3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return events


def main() -> None:
    """Measure and print."""
    chosen = options()
    torch.zeros(1, device="cuda")  # the profiler watches what PyTorch has opened
    found = rows(trace(chosen.precision, chosen.batch_size), STEPS)
    head = ["", "launches a step", "µs a step", "blocks", "registers"]
    Console().print("\n".join(table(head, found)), markup=False)


if __name__ == "__main__":
    main()
