"""Fresh processes: how long they take to start, and how much memory a training run takes."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import inputs
from mnist100.data import DigitSet
from timing import interleaved

PYTHON = [sys.executable, "-c"]
STARTS = {
    "python": [*PYTHON, "pass"],
    "import numpy": [*PYTHON, "import numpy"],
    "import mnist100": [*PYTHON, "import mnist100"],
    "mnist100 --help": [str(Path(sys.executable).with_name("mnist100")), "--help"],
    "import torch": [*PYTHON, "import torch"],
}
TRAIN_DIGITS, DEV_DIGITS = 60_000, 10_000

# RUSAGE_CHILDREN of a process that is itself small: what it was before exec counts for its child.
_PEAK = """
import json, resource, subprocess, sys
done = subprocess.run(json.loads(sys.argv[1]), stdout=subprocess.DEVNULL)
unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)
"""


def start(name: str) -> float:
    """Seconds from starting a process of `STARTS` to its end."""
    began = time.perf_counter()
    subprocess.run(STARTS[name], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def start_times(rounds: int) -> dict[str, list[float]]:
    """Of every process of `STARTS`, in turns; PyTorch's few starts are only to compare with."""
    return interleaved(
        {name: lambda _, name=name: start(name) for name in STARTS},  # type: ignore[misc]
        rounds=rounds,
        slot_seconds=0.0,
        budget_seconds=10.0,
    )


def write_idx(digits: DigitSet, folder: Path, prefix: str) -> None:
    """Write digits as MNIST's files are."""
    for kind, magic, values in (
        ("images-idx3", 0x0803, digits.images),
        ("labels-idx1", 0x0801, digits.labels),
    ):
        header = struct.pack(f">{1 + values.ndim}I", magic, *values.shape)
        (folder / f"{prefix}-{kind}-ubyte").write_bytes(header + values.tobytes())


def training_memory(folder: Path, threads: int, digits: int = TRAIN_DIGITS) -> int:
    """Peak resident bytes of `mnist100 train` for an epoch, evaluations and the test set included.

    Parameters
    ----------
    folder : an empty one, for the data and the run
    threads : of the run
    digits : training digits, a sixth of which become dev
    """
    write_idx(inputs.digits(digits), folder, "train")
    write_idx(inputs.digits(DEV_DIGITS), folder, "t10k")
    command = [sys.executable, "-m", "mnist100", "train", "--epochs", "1"]
    command += ["--dataset", str(folder), "--out", str(folder / "run"), "--threads", str(threads)]
    done = subprocess.run(
        [*PYTHON, _PEAK, json.dumps(command)], check=True, stdout=subprocess.PIPE, text=True
    )
    status, peak = map(int, done.stdout.split())
    if status:
        raise RuntimeError(f"{' '.join(command)}: ended with {status}")
    return peak
