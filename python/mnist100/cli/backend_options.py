"""The options that choose what to compute with."""

from __future__ import annotations

import argparse

from mnist100.cli.errors import UsageError
from mnist100.training import Recipe, backends


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


def chosen_backend(options: argparse.Namespace, recipe: Recipe | None = None) -> backends.Native:
    """Return the backend that the options ask for; ``--threads`` has been heeded before. See `open_backend`."""
    return open_backend(options.backend or "native", options.device or "cpu", recipe)


def open_backend(name: str, device: str, recipe: Recipe | None) -> backends.Native:
    """Return the backend of these options' values, which can train by the recipe if there is one."""
    if device != "cpu" and name == "numpy":
        raise UsageError(f"argument --device: got {device} with --backend numpy, wants cpu")
    backend = backends.choose(name, device)
    if recipe is None:
        return backend
    try:
        backend.check(recipe)
    except ValueError as error:
        raise UsageError(f"argument --{error}") from None
    return backend
