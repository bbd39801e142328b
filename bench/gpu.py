"""Time training on a GPU, by our kernels and by PyTorch in each of its modes, in one run.

python bench/gpu.py --json gpu.json    # needs a build with CUDA, and PyTorch with CUDA
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

import inputs
from gpu_torch import Mode, TorchRun, set_precision
from mnist100 import _core
from mnist100.training.device import DeviceInputs, DeviceTrainer
from mnist100.training.inputs import TrainingInputs
from mnist100.training.tally import Tally
from results import table
from timing import Spread, interleaved, ratio, seconds_a_call

PRECISIONS = ("fp32", "tf32", "bf16")
KINDS = ("eager", "graph", "max-autotune")
MOST_EPOCHS = 1000  # of a contender: the rate's schedule ends somewhere
SLOT_SECONDS = 0.1
BUDGET_SECONDS = 30.0


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=50_000, help="of an epoch (default: 50,000)")
    parser.add_argument("--batch-size", type=int, default=256, help="(default: 256)")
    parser.add_argument("--rounds", type=int, default=11, help="turns of each (default: 11)")
    parser.add_argument(
        "--pytorch",
        nargs="*",
        choices=KINDS,
        default=KINDS,
        help="its modes (default: all; max-autotune takes minutes to compile)",
    )
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="(default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time there")
    return parser.parse_args(arguments)


def ours(precision: str, pairs: int, batch_size: int) -> Callable[[], None]:
    """Return what trains for an epoch by our kernels."""
    recipe = inputs.recipe(precision=precision, batch_size=batch_size, epochs=MOST_EPOCHS)
    model = inputs.network(dropout=recipe.dropout)
    data = DeviceInputs(model, inputs.splits(pairs), recipe, inputs.SEED, 1)
    trainer = DeviceTrainer(model, recipe, data)
    epochs = itertools.count(1)
    return lambda: trainer.train_epoch(Tally(next(epochs)))


def pytorchs(mode: Mode, pairs: int, batch_size: int, device: str) -> Callable[[], None]:
    """Return what trains for an epoch by PyTorch."""
    set_precision(mode.precision)
    recipe = inputs.recipe(batch_size=batch_size, epochs=MOST_EPOCHS)
    data = TrainingInputs(inputs.splits(pairs), recipe, inputs.SEED, 1)
    run = TorchRun(mode, device, data, recipe)

    def epoch() -> None:
        set_precision(mode.precision)
        run.epoch()

    return epoch


def contenders(
    pairs: int, batch_size: int, device: str, modes: Sequence[str], precisions: Sequence[str]
) -> dict[str, Callable[[], None]]:
    """Return all that can run here, by name."""
    kinds = modes if device == "cuda" else KINDS[:1]
    found = {
        f"mnist100 {precision}": ours(precision, pairs, batch_size) for precision in precisions
    }
    for precision, kind in itertools.product(precisions, kinds):
        mode = Mode(kind, precision)
        found[f"PyTorch {mode.name}"] = pytorchs(mode, pairs, batch_size, device)
    return found


def lines(seconds: dict[str, list[float]], pairs: int, batch_size: int) -> list[str]:
    """The table: a row a contender, and how many times as fast ours is as PyTorch's best of its precision."""
    steps = -(-pairs // batch_size)
    rows = []
    for name, found in seconds.items():
        spread = Spread.of(found)
        library, *_, precision = name.split()
        rivals = [
            times
            for other, times in seconds.items()
            if other.startswith("PyTorch") and other.endswith(precision)
        ]
        versus = ""
        if library == "mnist100" and rivals:
            best = min(rivals, key=lambda times: Spread.of(times).median)
            versus = f"{ratio(best, found).median:.1f}×"
        rows.append(
            [
                name,
                f"{1e3 * spread.median:.2f} ms",
                f"{1e6 * spread.median / steps:.0f} µs",
                f"{pairs / spread.median:,.0f}",
                versus,
            ]
        )
    return table(["", "epoch", "a step", "images/s", "PyTorch's best / ours"], rows)


def main() -> None:
    """Time and print."""
    chosen = options()
    device = "cuda" if _core.dlpack_device()[0] == 2 else "cpu"  # an emulated GPU is for tests
    name = torch.cuda.get_device_name() if device == "cuda" else _core.device_name()
    found = contenders(chosen.pairs, chosen.batch_size, device, chosen.pytorch, chosen.precisions)
    seconds = interleaved(
        {name: partial(seconds_a_call, run) for name, run in found.items()},
        rounds=chosen.rounds,
        slot_seconds=SLOT_SECONDS,
        budget_seconds=BUDGET_SECONDS,
    )
    Console().print(
        "\n".join([name, "", *lines(seconds, chosen.pairs, chosen.batch_size)]), markup=False
    )
    if chosen.json:
        chosen.json.write_text(json.dumps({"gpu": name, "seconds": seconds}), encoding="utf-8")


if __name__ == "__main__":
    main()
