"""The options that choose what to compute with."""

from __future__ import annotations

import argparse

from mnist100.cli.errors import UsageError
from mnist100.training import backends


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add ``--backend`` and ``--device``."""
    parser.add_argument(
        "--backend",
        choices=tuple(backends.BACKENDS),
        help="what computes: our kernels, plain NumPy, or PyTorch (default: native)",
    )
    parser.add_argument(
        "--device",
        choices=backends.DEVICES,
        help="where the native backend or PyTorch computes (default: cpu)",
    )


def chosen_backend(options: argparse.Namespace) -> backends.Native:
    """Return the backend that the options ask for; ``--threads`` has been heeded before."""
    return open_backend(options.backend or "native", options.device or "cpu")


def open_backend(name: str, device: str) -> backends.Native:
    """Return the backend of these options' values."""
    if device != "cpu" and name == "numpy":
        raise UsageError(f"argument --device: got {device} with --backend numpy, wants cpu")
    return backends.choose(name, device)
