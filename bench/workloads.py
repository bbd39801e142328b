"""What is measured: every workload by name, with its sizes and how much it computes and moves.

`ours`, `pytorch` and `plain_numpy` each build what a workload runs, from the same inputs (`inputs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

BATCH = 256
EPOCH_PAIRS = (
    49 * BATCH
)  # a quarter of the default epoch's 196 steps; its fixed costs scale with it

Array: TypeAlias = npt.NDArray[Any]


class Subject(NamedTuple):
    """One library's way to run a workload."""

    run: Callable[[], object]
    """What is timed."""

    outputs: Callable[[], dict[str, Array]]
    """What it computes, in the layout of `mnist100.functional`, to compare between libraries."""


Builder: TypeAlias = Callable[..., Subject]
Builders: TypeAlias = Mapping[str, Mapping[str, Builder]]
"""By operation, then by mode: a builder that takes the workload's sizes."""


@dataclass(frozen=True)
class Workload:
    """One operation at one size.

    Attributes
    ----------
    name : unique, "OPERATION WHERE"
    operation : key of each library's builders
    sizes : arguments of the builder
    flops : floating-point operations of the dense computation, 2 a multiply-add
    moved : bytes of the operands, each counted once
    serial : measured on one thread whatever the rest runs on
    tolerance : largest relative difference (of norms) between libraries
    """

    name: str
    operation: str
    sizes: tuple[int | str | bool, ...]
    flops: float = 0.0
    moved: float = 0.0
    serial: bool = False
    tolerance: float = 3e-5  # float32 sums of up to 400,000 terms differ by some 4e-6


def _gemms() -> list[Workload]:
    """The products of the network's layers, the convolutions' as if by im2col; out= everywhere."""
    conv1, conv2 = BATCH * 28 * 56, BATCH * 14 * 28  # output pixels
    products: dict[str, tuple[int, int, int, bool, bool]] = {  # m, n, k, A and B transposed
        "fc1 forward": (BATCH, 256, 3136, False, True),
        "fc1 dX": (BATCH, 3136, 256, False, False),
        "fc1 dW": (256, 3136, BATCH, True, False),
        "fc2 forward": (BATCH, 100, 256, False, True),
        "fc2 dX": (BATCH, 256, 100, False, False),
        "fc2 dW": (100, 256, BATCH, True, False),
        "conv1 forward": (conv1, 16, 9, False, True),
        "conv1 dW": (16, 9, conv1, True, False),
        "conv2 forward": (conv2, 32, 144, False, True),
        "conv2 dW": (32, 144, conv2, True, False),
        "conv2 dX": (conv2, 144, 32, False, False),
    }
    return [
        Workload(f"gemm {where}", "gemm", p, 2.0 * m * n * k, 4.0 * (m * k + k * n + m * n))
        for where, p in products.items()
        for m, n, k in [p[:3]]
    ]


# The inputs of the network's convolutions, and the outputs that its pools take.
CONV_INPUTS = {"conv1": (BATCH, 1, 28, 56), "conv2": (BATCH, 16, 14, 28)}
POOL_INPUTS = {"pool1": (BATCH, 16, 28, 56), "pool2": (BATCH, 32, 14, 28)}


def _windows() -> list[Workload]:
    found = []
    for where, x in CONV_INPUTS.items():
        moved = 4.0 * 10 * np.prod(x)  # the image and nine copies
        found += [Workload(f"{op} {where}", op, x, moved=moved) for op in ("im2col", "col2im")]
    for where, x in POOL_INPUTS.items():
        # Forward x, y and argmax; backward dx, dy and argmax: outputs are a quarter of the inputs.
        found.append(Workload(f"max_pool2d {where}", "max_pool2d", x, moved=4.0 * 3 * np.prod(x)))
    return found


# Where two window elements are equal but for rounding, or a sum is zero but for it, libraries may route the
# gradient differently: 10 of 10^6 windows already make a relative difference of 0.004.
TIES = 1e-2

CONV_BATCH = 64  # the 28x28 images of 128 channels are 26 MB then


def _convolutions() -> list[Workload]:
    found = []
    for channels in (16, 32, 64, 128):
        for h, w in ((14, 14), (14, 28), (28, 28)):
            flops = 2.0 * 9 * channels**2 * h * w * CONV_BATCH
            where = f"{channels}-{channels} {h}x{w}"
            sizes = (CONV_BATCH, channels, h, w)
            found.append(Workload(f"conv {where}", "conv", sizes, flops))
            name = "conv_backward"
            found.append(Workload(f"{name} {where}", name, sizes, 2 * flops, tolerance=TIES))
            if (channels, h, w) == (32, 14, 28):  # the same as a function, NCHW on both sides
                found.append(Workload(f"conv2d {where}", "conv2d", sizes, flops))
                name = "conv2d_backward"
                found.append(Workload(f"{name} {where}", name, sizes, 2 * flops))
    return found


def _layers() -> list[Workload]:
    flops = {"conv1": 2.0 * 9 * 16 * 28 * 56 * BATCH, "conv2": 2.0 * 144 * 32 * 14 * 28 * BATCH}
    found = []
    for where, products in (("conv1", 1), ("conv2", 2)):  # nobody needs the image's gradient
        found.append(Workload(f"block {where}", "block", (where,), flops[where]))
        found.append(
            Workload(
                f"block_backward {where}",
                "block_backward",
                (where,),
                products * flops[where],
                tolerance=TIES,
            )
        )
    for where, (inputs, outputs) in {"fc1": (3136, 256), "fc2": (256, 100)}.items():
        product = 2.0 * BATCH * inputs * outputs
        sizes = (BATCH, inputs, outputs)
        found.append(Workload(f"linear {where}", "linear", sizes, product))
        found.append(Workload(f"linear_backward {where}", "linear_backward", sizes, 2 * product))
    # param, m and v are read and written, grad is read.
    found.append(Workload("adam fc1", "adam", (256, 3136), moved=4.0 * 7 * 256 * 3136))
    return found


STEP = Workload("step", "step", (BATCH,), flops=16.7e6 * BATCH, tolerance=1e-3)
INFERENCE = Workload("inference 256", "inference", (BATCH,), flops=5.7e6 * BATCH)
LATENCY = Workload("inference 1", "inference", (1,), flops=5.7e6, serial=True)
EPOCH = Workload("epoch", "epoch", (EPOCH_PAIRS,), tolerance=1e-3)

GEMMS = _gemms()
WINDOWS = _windows()
CONVOLUTIONS = _convolutions()
LAYERS = _layers()

_ALL = [*GEMMS, *WINDOWS, *CONVOLUTIONS, *LAYERS, STEP, INFERENCE, LATENCY, EPOCH]
WORKLOADS = {workload.name: workload for workload in _ALL}


def difference(found: dict[str, Array], expected: dict[str, Array]) -> float:
    """Largest |found - expected| / |expected| of the outputs, Euclidean norms; NaN counts as infinite."""
    if found.keys() != expected.keys():
        raise ValueError(f"found: got outputs {sorted(found)}, wants {sorted(expected)}")
    worst = 0.0
    for name, want in expected.items():
        got = found[name]
        if got.shape != want.shape:
            raise ValueError(f"found: got {name} of shape {got.shape}, wants {want.shape}")
        apart = np.linalg.norm((got - want).astype(np.float64))
        relative = float(apart / max(float(np.linalg.norm(want.astype(np.float64))), 1e-30))
        worst = max(worst, relative if np.isfinite(relative) else np.inf)
    return worst


class DisagreementError(Exception):
    """A library computes something else than the others: its time means nothing."""


def verify(
    workload: Workload, who: str, found: dict[str, Array], expected: dict[str, Array]
) -> None:
    """Raise DisagreementError unless the outputs agree within the workload's tolerance."""
    apart = difference(found, expected)
    if apart > workload.tolerance:
        raise DisagreementError(
            f"{workload.name}: {who} differs by {apart:.2g}, at most {workload.tolerance:.2g} is rounding"
        )
