"""The folder that a run leaves: its files, and the rules for making one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from mnist100.files import atomic_writer, check_writable
from mnist100.modelfile import MODEL_NAME, TORCH_MODEL_NAME

MODEL = MODEL_NAME
LAST = "last.npz"
HISTORY = "history.csv"
HISTORY_LINES = "history.jsonl"
CONFIG = "config.toml"
CURVES = "curves.png"
RUN_FILES = (MODEL, TORCH_MODEL_NAME, LAST, HISTORY, HISTORY_LINES, CONFIG, CURVES)


def default_folder(model: str, parent: Path = Path("runs")) -> Path:
    """Return the first free one of ``runs/<model>-1``, ``runs/<model>-2``, …"""
    number = 1
    while (folder := parent / f"{model}-{number}").exists():
        number += 1
    return folder


def check_folder(folder: Path, *, resumable: bool = True) -> None:
    """Make sure that a run could be written into `folder`, without making anything.

    Parameters
    ----------
    folder
        The folder.
    resumable
        Whether the command that asks could go on with a run.

    Raises
    ------
    FileExistsError
        If it already holds a run; nothing is ever overwritten.
    OSError
        If it is not a folder, or it or the nearest existing folder above it cannot be written to.
    """
    for name in RUN_FILES:
        if (folder / name).exists():
            raise FileExistsError(
                f"{folder}: already holds a run ({name}); give another --out"
                + (", or go on with it: --resume" if resumable else "")
            )
    check_writable(folder)


def create_folder(folder: Path, config: Mapping[str, Any]) -> None:
    """Make the folder, and ``config.toml`` in it.

    Raises
    ------
    FileExistsError
        If another run has taken the folder since `check_folder`.
    OSError
        If either cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / CONFIG).touch(exist_ok=False)  # of two runs that start together, one gets it
    except FileExistsError:
        raise FileExistsError(
            f"{folder}: another run has just taken it; give another --out"
        ) from None
    try:
        write_config(folder, config)
    except BaseException:
        discard(folder)
        raise


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.toml``, replacing what was there."""
    with atomic_writer(folder / CONFIG) as file:
        tomli_w.dump(config, file)


def best_model(folder: Path) -> Path | None:
    """Return the file with the best weights so far, if there is one."""
    files = (folder / name for name in (MODEL, TORCH_MODEL_NAME))
    return next((file for file in files if file.exists()), None)


def discard(folder: Path) -> None:
    """Take away the files of a run that came to nothing, and the folder if that leaves it empty.

    Such a run then does not stand in the way of the next attempt.
    """
    for name in RUN_FILES:
        (folder / name).unlink(missing_ok=True)
    clear_leftovers(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def clear_leftovers(folder: Path) -> None:
    """Take away the temporary files of a run that was killed while it wrote."""
    for name in RUN_FILES:
        for leftover in folder.glob(f".{name}.*"):
            leftover.unlink(missing_ok=True)
