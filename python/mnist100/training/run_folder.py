"""The folder that a run leaves: its files, and the rules for making one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from mnist100.files import atomic_writer
from mnist100.modelfile import MODEL_NAME

MODEL = MODEL_NAME
HISTORY = "history.csv"
CONFIG = "config.toml"
CURVES = "curves.png"
RUN_FILES = (MODEL, HISTORY, CONFIG, CURVES)


def default_folder(model: str, parent: Path = Path("runs")) -> Path:
    """Return the first free one of ``runs/<model>-1``, ``runs/<model>-2``, …"""
    number = 1
    while (folder := parent / f"{model}-{number}").exists():
        number += 1
    return folder


def check_folder(folder: Path) -> None:
    """Make sure that a run could be written into `folder`, without making anything.

    Raises
    ------
    FileExistsError
        If it already holds a run; nothing is ever overwritten.
    OSError
        If it is not a folder, or it or the nearest existing folder above it cannot be written to.
    """
    for name in RUN_FILES:
        if (folder / name).exists():
            raise FileExistsError(f"{folder}: already holds a run ({name}); give another --out")
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(f"{existing}: is not a folder; give another --out")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"{existing}: cannot be written to; give another --out")


def create_folder(folder: Path, config: Mapping[str, Any]) -> None:
    """Make the folder, and ``config.toml`` in it.

    Raises
    ------
    OSError
        If either cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_writer(folder / CONFIG) as file:
        tomli_w.dump(config, file)


def discard_if_unused(folder: Path) -> bool:
    """Take ``config.toml`` and the empty folder back if no model was kept; say whether it was so.

    A run that ended before its first epoch then does not stand in the way of the next attempt.
    """
    if (folder / MODEL).exists():
        return False
    (folder / CONFIG).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    return True
