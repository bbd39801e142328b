"""Options that commands share; their values are checked here, before any data is read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

MOST_THREADS = 1024
MOST_SEED = 2**63 - 1  # the largest whole number in TOML


def whole(low: int, high: int) -> Callable[[str], int]:
    """Make an option type: a whole number in a range."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"got {text!r}, wants a whole number from {low} to {high}"
            )
        return value

    return convert


def some_text(wants: str) -> Callable[[str], str]:
    """Make an option type: any text but the empty one, which `wants` describes."""

    def convert(text: str) -> str:
        if not text.strip():
            raise argparse.ArgumentTypeError(f"got {text!r}, wants {wants}")
        return text

    return convert


def add_dataset(parser: argparse.ArgumentParser, default: str | None, default_text: str) -> None:
    """Add ``--dataset``."""
    parser.add_argument(
        "--dataset",
        type=some_text("auto, mnist, digits or a folder or .npz file"),
        default=default,
        metavar="auto|mnist|digits|PATH",
        help="auto is mnist if it can be had, else digits; PATH is a folder of IDX or CSV files or "
        f"an .npz file ({default_text})",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the trained network that a command is about."""
    parser.add_argument("model", type=Path, metavar="RUN_OR_MODEL", help="run folder or model file")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``."""
    parser.add_argument(
        "--threads",
        type=whole(1, MOST_THREADS),
        metavar="N",
        help="threads to compute with (default: OMP_NUM_THREADS, or one for each core)",
    )


def add_picture(parser: argparse.ArgumentParser) -> None:
    """Add ``--out`` of a command that draws."""
    parser.add_argument(
        "--out",
        type=some_text("a file"),
        required=True,
        metavar="FILE",
        help="new .png, .pdf or .svg file to draw to",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object on standard output, and everything else on standard error",
    )
