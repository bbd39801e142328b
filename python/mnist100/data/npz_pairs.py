"""Finished pairs as .npz, in the layout of the public MNIST-100 file (``mnist_compressed.npz``).

``train_images`` and ``test_images`` are uint8 (N, 28, 56), ``train_labels`` and ``test_labels`` (N,),
0 to 99. Labels are written as uint8; any integers are read.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mnist100.data.faults import MOST_BYTES, REPLACE, DataError, file_size, reported
from mnist100.data.normalisation import IMAGE_SHAPE
from mnist100.data.pairs import CLASSES, PairSet, halves
from mnist100.npz import NpzError, read_npz

NAME = "mnist_compressed.npz"

_SPLITS = ("train", "test")
_ENTRIES = tuple(f"{split}_{kind}" for split in _SPLITS for kind in ("images", "labels"))


def read(path: Path) -> tuple[PairSet, PairSet]:
    """Read training and test pairs, in memory bounded by what the file really holds, and by 4 GiB.

    Raises
    ------
    DataError
        If the file is missing or damaged, or an array is missing, empty or of another dtype, shape
        or range.
    """
    file_size(path)
    with reported(path):
        try:
            arrays = read_npz(path, _fault, most_entries=len(_ENTRIES))
        except NpzError as error:
            raise DataError(f"{error}; {REPLACE}") from error
    missing = [name for name in _ENTRIES if name not in arrays]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}; {REPLACE}")
    sets = []
    for split in _SPLITS:
        # Taken out, so that the arrays do not stay in memory beside the pairs made of them.
        images, labels = arrays.pop(f"{split}_images"), arrays.pop(f"{split}_labels")
        if len(images) != len(labels):
            raise DataError(
                f"{path}: {len(labels)} {split}_labels for {len(images)} {split}_images; {REPLACE}"
            )
        for label in (labels.min(), labels.max()):
            if not 0 <= label < CLASSES:
                raise DataError(f"{path}: {split}_labels holds {label}, want 0 to {CLASSES - 1}")
        sets.append(halves(images, labels.astype(np.uint8)))
    train, test = sets
    return train, test


def write(file: BinaryIO, train: PairSet, test: PairSet) -> None:
    """Write training and test pairs in their order."""
    np.savez_compressed(
        file,
        train_images=train.images(np.arange(len(train))),
        train_labels=train.labels.astype(np.uint8),
        test_images=test.images(np.arange(len(test))),
        test_labels=test.labels.astype(np.uint8),
    )


def _fault(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str | None:
    """Return what is wrong with an entry, judged by its header."""
    if name not in _ENTRIES:
        return f"does not belong there; want {', '.join(_ENTRIES)}"
    images = name.endswith("images")
    if images and dtype != np.uint8:
        return f"is {dtype}, want uint8"
    if not images and dtype.kind not in "iu":
        return f"is {dtype}, want integers"
    item = IMAGE_SHAPE if images else ()
    if len(shape) != 1 + len(item) or shape[1:] != item:
        wish = ", ".join(("N", *map(str, item)))
        return f"has shape {shape}, want ({wish})"
    size = math.prod(shape) * dtype.itemsize
    return f"has {size} bytes, at most {MOST_BYTES} allowed" if size > MOST_BYTES else None
