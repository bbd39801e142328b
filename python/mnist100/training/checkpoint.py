"""``last.npz``: all that a run needs to go on as if it had never been stopped.

For each parameter ``weights.NAME`` and Adam's moments ``adam_m.NAME`` and ``adam_v.NAME``; for each buffer
``buffers.NAME``; if the recipe averages weights, ``average.NAME`` for both; ``history``, float64 (epochs, 7), the columns of ``history.csv`` with
NaN for no dev accuracy; and one JSON string, ``metadata``: what the run is, and how far it has come in the
epoch after the last of the history. Everything drawn at random depends on (seed, epoch, step, place) alone,
so the place in the run stands for the state of every generator; early stopping follows from the history. The
best weights are in ``model.npz``. No pickle; all of it is checked when it is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist100.data import Splits, checksum
from mnist100.files import atomic_writer
from mnist100.npz import NpzError, read_npz, write_npz
from mnist100.training.history import HEADER, EpochRecord
from mnist100.training.tally import Tally

HISTORY = "history"
METADATA = "metadata"
FORMAT = 1

MOST_ENTRIES = 128  # four for each parameter: more than any architecture has
MOST_BYTES = 8 * 256 * 3136  # of an entry: the largest tensor of any architecture, in float64

Tensors = dict[str, npt.NDArray[Any]]


class CheckpointError(ValueError):
    """A ``last.npz`` that a run cannot go on from; the message names it and what is wrong."""


@dataclass(frozen=True)
class Checkpoint:
    """A run between two steps.

    Parameters
    ----------
    run
        What the run is, as `identity` says it.
    tensors
        Weights, moments and averages by name.
    history
        The finished epochs.
    tally
        The epoch after them; its ``step`` is 0 if it has not begun.
    """

    run: Mapping[str, Any]
    tensors: Tensors
    history: tuple[EpochRecord, ...]
    tally: Tally


def identity(
    recipe: Mapping[str, Any], seed: int, repeats: int, backend: str, splits: Splits
) -> dict[str, Any]:
    """What decides every bit of a run, the instruction set aside; ready for JSON."""
    return {
        "recipe": dict(recipe),
        "seed": seed,
        "repeats": repeats,
        "backend": backend,
        "train_sha256": checksum(splits.train),
        "dev_sha256": None if splits.dev is None else checksum(splits.dev),
    }


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``last.npz`` atomically.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is untouched.
    """
    arrays = dict(checkpoint.tensors)
    if checkpoint.history:
        arrays[HISTORY] = np.array(
            [
                [math.nan if value is None else value for value in astuple(record)]
                for record in checkpoint.history
            ],
            np.float64,
        )
    facts = {"format": FORMAT, "run": checkpoint.run, "tally": asdict(checkpoint.tally)}
    arrays[METADATA] = np.array(json.dumps(facts, allow_nan=False))
    with atomic_writer(path) as file:
        write_npz(file, arrays)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read ``last.npz``.

    Raises
    ------
    CheckpointError
        If it is damaged or not such a file.
    OSError
        If it cannot be read.
    """
    try:
        arrays = read_npz(path, _fault, most_entries=MOST_ENTRIES)
        facts = _facts(arrays.pop(METADATA, None))
        history = _history(arrays.pop(HISTORY, None))
        tally = _tally(facts.get("tally"), len(history) + 1)
    except NpzError as error:
        raise CheckpointError(str(error)) from error
    except _FaultError as error:
        raise CheckpointError(f"{path}: {error}") from None
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise CheckpointError(f"{path}: {name} holds values that are not finite")
    return Checkpoint(facts["run"], arrays, history, tally)


def check_tensors(path: Path, saved: Tensors, wanted: Tensors) -> None:
    """Check the tensors of a checkpoint against those of the run that it is for.

    Parameters
    ----------
    path
        Where the checkpoint is from, for the message.
    saved, wanted
        What was read, and what has the names, shapes and dtypes that it should have.

    Raises
    ------
    CheckpointError
        If they differ in these.
    """
    if saved.keys() != wanted.keys():
        odd = ", ".join(sorted(saved.keys() ^ wanted.keys()))
        raise CheckpointError(f"{path}: entries missing or unknown: {odd}")
    for name, value in wanted.items():
        got = saved[name]
        if (got.shape, got.dtype) != (value.shape, value.dtype):
            raise CheckpointError(
                f"{path}: {name} is {got.dtype} {got.shape}, wants {value.dtype} {value.shape}"
            )


class _FaultError(ValueError):
    """What is wrong with an entry; the caller adds the file."""


def _fault(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str | None:
    """What is wrong with an entry, judged by its header."""
    if name == METADATA and (shape or dtype.kind != "U"):
        return f"is {dtype} {shape}, not one string"
    if name == HISTORY and (dtype != np.float64 or len(shape) != 2 or shape[1] != len(HEADER)):
        return f"is {dtype} {shape}, not float64 (epochs, {len(HEADER)})"
    if name not in (METADATA, HISTORY) and dtype.kind not in "fu":
        return f"is {dtype}, not floating point or unsigned"
    size = math.prod(shape) * dtype.itemsize
    return f"has {size} bytes, at most {MOST_BYTES} allowed" if size > MOST_BYTES else None


def _facts(text: npt.NDArray[Any] | None) -> dict[str, Any]:
    if text is None:
        raise _FaultError(f"no entry {METADATA}")
    try:
        facts = json.loads(str(text))
    except (ValueError, RecursionError) as error:
        raise _FaultError(f"{METADATA} is not JSON ({error})") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise _FaultError(f"{METADATA} is not of format {FORMAT}")
    if not isinstance(facts.get("run"), dict):
        raise _FaultError(f"{METADATA} does not say what the run is")
    return facts


def _history(rows: npt.NDArray[np.float64] | None) -> tuple[EpochRecord, ...]:
    if rows is None:
        return ()
    dev = HEADER.index("dev_acc")
    if not np.isfinite(np.delete(rows, dev, axis=1)).all() or np.isinf(rows[:, dev]).any():
        raise _FaultError(f"{HISTORY} holds values that are not finite")
    if not np.array_equal(rows[:, 0], np.arange(1, len(rows) + 1)):
        raise _FaultError(f"{HISTORY} does not count its epochs from 1")
    return tuple(
        EpochRecord(int(epoch), loss, train, None if math.isnan(measured) else measured, *rest)
        for epoch, loss, train, measured, *rest in rows.tolist()
    )


def _tally(values: Any, epoch: int) -> Tally:
    names = [field.name for field in fields(Tally)]
    if not isinstance(values, dict) or list(values) != names:
        raise _FaultError(f"tally: got {values!r:.80}, wants {', '.join(names)}")
    whole = ("epoch", "step", "images")
    for name, value in values.items():
        if not _is_number(value, (int,) if name in whole else (int, float)):
            raise _FaultError(f"tally: {name} is {value!r:.80}, not a number from 0 up")
    if values["epoch"] != epoch:
        raise _FaultError(
            f"tally: epoch is {values['epoch']}, wants {epoch}, which follows the history"
        )
    return Tally(**values)


def _is_number(value: Any, kinds: tuple[type, ...]) -> bool:
    return type(value) in kinds and math.isfinite(value) and value >= 0
