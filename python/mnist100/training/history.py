"""What each epoch of a run came to: in memory, in ``history.csv`` and in ``history.jsonl``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from mnist100.files import atomic_writer


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a run; the fields are the columns of ``history.csv``.

    Parameters
    ----------
    epoch
        Counted from 1.
    loss
        Mean training loss of the epoch, the L2 term included, with augmentation and dropout on.
    train_acc
        Accuracy on the fixed subset of training pairs, without augmentation or dropout.
    dev_acc
        Accuracy on the dev pairs; None in a run without a dev set (an empty field in the file).
    learning_rate
        The rate of the epoch's last step.
    seconds
        Time spent in training steps, evaluation and interruptions not included.
    images_per_second
        Training pairs a second in that time.
    """

    epoch: int
    loss: float
    train_acc: float
    dev_acc: float | None
    learning_rate: float
    seconds: float
    images_per_second: float


HEADER = tuple(field.name for field in fields(EpochRecord))


def write_history(path: Path, records: Iterable[EpochRecord]) -> None:
    """Write ``history.csv``, replacing what was there in one step.

    Floats are written so that reading gives the same number back.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for record in records:
        writer.writerow("" if value is None else repr(value) for value in astuple(record))
    with atomic_writer(path) as file:
        file.write(text.getvalue().encode())


def write_history_lines(path: Path, records: Iterable[EpochRecord]) -> None:
    """Write ``history.jsonl``, an object a line with the columns' names, replacing what was there."""
    lines = [json.dumps(asdict(record), allow_nan=False) + "\n" for record in records]
    with atomic_writer(path) as file:
        file.write("".join(lines).encode())


def read_history(path: Path) -> list[EpochRecord]:
    """Read ``history.csv``.

    Raises
    ------
    ValueError
        If the file is not one that `write_history` wrote; the message names it and the line.
    OSError
        If it cannot be read.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if not rows or tuple(rows[0]) != HEADER:
        raise ValueError(f"{path}: line 1: wants the header {','.join(HEADER)}")
    return [_record(path, number, row) for number, row in enumerate(rows[1:], start=2)]


def _record(path: Path, number: int, row: list[str]) -> EpochRecord:
    try:
        epoch, loss, train, dev, rate, seconds, speed = row
        return EpochRecord(
            int(epoch),
            float(loss),
            float(train),
            float(dev) if dev else None,
            float(rate),
            float(seconds),
            float(speed),
        )
    except ValueError:
        raise ValueError(
            f"{path}: line {number}: got {','.join(row)!r}, wants {len(HEADER)} numbers"
        ) from None
