"""Write training and test pairs to files, for other programs or for --dataset.

csv writes mnist_train.csv and mnist_test.csv, npz writes mnist_compressed.npz. Nothing is overwritten.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.progress import MofNCompleteColumn

from mnist100.cli.console import file_bars, load_with_progress, open_console, print_json, say
from mnist100.cli.errors import CommandError, Interrupted, UsageError
from mnist100.cli.options import add_dataset, add_json, some_text
from mnist100.data import DigitSet, PairSet, Source, balanced, csv_pairs, npz_pairs, published_pairs
from mnist100.files import atomic_writer, check_writable
from mnist100.training.interrupt import HeldSignals, Interruption, hold_signals

_USUAL = "permutation"
_NAMES = {"csv": (csv_pairs.TRAIN_NAME, csv_pairs.TEST_NAME), "npz": (npz_pairs.NAME,)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_dataset(parser, "auto", "default: auto")
    parser.add_argument(
        "--pairing",
        choices=(_USUAL, "balanced"),
        help="permutation has each digit once on the left and once on the right; balanced has 500 "
        "training and 100 test pairs of every class, those of the NumPy script that this project "
        f"grew from (default: {_USUAL}; finished pairs stay as they are)",
    )
    parser.add_argument(
        "--format", choices=tuple(_NAMES), default="csv", help="of the files (default: csv)"
    )
    parser.add_argument(
        "--out",
        type=some_text("a folder"),
        default=".",
        metavar="FOLDER",
        help="where to write (default: the current folder)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    out = Path(options.out)
    paths = [out / name for name in _NAMES[options.format]]
    for path in paths:
        if os.path.lexists(path):
            raise CommandError(f"{path}: already exists; give another --out, or move it away")
    check_writable(out)
    console = open_console(json_output=options.json)
    source = load_with_progress(options.dataset)
    if source.notice:
        say(console, source.notice)
    train, test = _pairs(source, options.pairing)
    with _explaining(out), _held(paths) as signals:
        _write(paths, train, test, signals)
    files = [_facts(path) for path in paths]
    for file in files:
        say(console, "Wrote {path}: {bytes:,} bytes, SHA-256 {sha256}".format(**file))
    say(console, f"{len(train):,} training and {len(test):,} test pairs of {source.name}")
    if options.json:
        pairing = None if source.is_paired else options.pairing or _USUAL
        about = {"dataset": source.name, "notice": source.notice, "pairing": pairing}
        print_json(about | {"train_pairs": len(train), "test_pairs": len(test), "files": files})


def _pairs(source: Source, pairing: str | None) -> tuple[PairSet, PairSet]:
    """Return training and test pairs of a source; of None as pairing, the usual ones."""
    if isinstance(source.train, DigitSet) and isinstance(source.test, DigitSet):
        if pairing == "balanced":
            return balanced(source.train, source.test)
    elif pairing is not None:
        raise UsageError(
            f"argument --pairing: {source.name} holds finished pairs, which are written as they "
            "are; leave it out"
        )
    train, test = (
        published_pairs(table, repeats=source.repeats) for table in (source.train, source.test)
    )
    return train, test


def _write(paths: list[Path], train: PairSet, test: PairSet, signals: HeldSignals) -> None:
    """Write one npz file or two CSV files, all or none, showing how many pairs are done."""
    with ExitStack() as stack:
        show = stack.enter_context(file_bars(MofNCompleteColumn()))
        files = [stack.enter_context(atomic_writer(path)) for path in paths]
        if len(files) == 1:
            show(paths[0].name, 0, 0)
            npz_pairs.write(files[0], train, test)
            signals.raise_received()
            return
        for path, file, pairs in zip(paths, files, (train, test), strict=True):
            for done in csv_pairs.write(file, pairs):
                signals.raise_received()
                show(path.name, done, len(pairs))


@contextmanager
def _held(paths: list[Path]) -> Iterator[HeldSignals]:
    """Hold Ctrl-C and SIGTERM, so that the files appear together, and say which it was."""
    try:
        with hold_signals() as signals:
            yield signals
    except Interruption as stop:
        there = all(path.exists() for path in paths)
        names = " and ".join(str(path) for path in paths)
        kept = f"{names}: complete" if there else "nothing was written"
        raise Interrupted(kept, 128 + stop.signal) from None


@contextmanager
def _explaining(out: Path) -> Iterator[None]:
    """Make the folder; if the block fails, take a new one back and say what to do."""
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        if new:
            with suppress(OSError):
                out.rmdir()
        if isinstance(error, OSError):
            raise CommandError(
                f"{error.filename or out}: cannot be written ({error.strerror or error}); make "
                "room or give another --out; nothing was written"
            ) from error
        raise


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest}
