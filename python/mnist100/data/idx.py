"""Reading IDX files, the form MNIST comes in, compressed or not, without trusting them."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist100.data.faults import MOST_BYTES, REPLACE, DataError, file_size, reported
from mnist100.data.pairs import DIGIT_SHAPE, DigitSet
from mnist100.files import read_into
from mnist100.npz import MOST_EXPANSION

TRAIN_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST_FILES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

_IMAGES_MAGIC = 0x00000803
_LABELS_MAGIC = 0x00000801
_GZIP_MAGIC = 0x1F8B


def read_folder(folder: str | os.PathLike[str]) -> tuple[DigitSet, DigitSet]:
    """Read the four IDX files of a folder, each with or without ``.gz``.

    Parameters
    ----------
    folder : path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte``
        and ``t10k-labels-idx1-ubyte``. Of ``NAME`` and ``NAME.gz`` the first is read.

    Returns
    -------
    train, test : DigitSet

    Raises
    ------
    DataError
        If a file is missing, damaged or does not fit the others.
    """
    folder = Path(folder)
    try:
        present = set(os.listdir(folder))
    except FileNotFoundError:
        raise DataError(f"{folder}: no such folder; want one with the MNIST IDX files") from None
    except NotADirectoryError:
        raise DataError(f"{folder}: not a folder; want one with the MNIST IDX files") from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    missing = [n for n in TRAIN_FILES + TEST_FILES if not present & {n, f"{n}.gz"}]
    if missing:
        raise DataError(f"{folder}: has no {', '.join(missing)} (.gz or not); add what is missing")
    paths = {n: folder / (n if n in present else f"{n}.gz") for n in TRAIN_FILES + TEST_FILES}
    train, test = ((paths[images], paths[labels]) for images, labels in (TRAIN_FILES, TEST_FILES))
    return _read_digits(*train), _read_digits(*test)


def read_images(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of images, uint8 (N, 28, 28), N at least 1; unzip it if it ends in ``.gz``.

    Raises
    ------
    DataError
        If the file is anything else. Memory stays below what the file really holds, and below
        1 GiB for a ``.gz``.
    """
    return _read(path, _IMAGES_MAGIC, DIGIT_SHAPE)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of labels 0 to 9, uint8 (N,), N at least 1; as `read_images` otherwise."""
    labels = _read(path, _LABELS_MAGIC, ())
    if labels.max() > 9:
        raise DataError(f"{path}: label {labels.max()}, want 0 to 9; give files of digits")
    return labels


def header(values: NDArray[np.uint8]) -> bytes:
    """Return the bytes that stand before ``values``, (N, 28, 28) or (N,), in an IDX file."""
    magic = _IMAGES_MAGIC if values.ndim == 3 else _LABELS_MAGIC
    return struct.pack(f">{1 + values.ndim}I", magic, *values.shape)


def _read_digits(images_path: Path, labels_path: Path) -> DigitSet:
    images, labels = read_images(images_path), read_labels(labels_path)
    if len(images) != len(labels):
        raise DataError(
            f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path}; "
            "give files that belong together"
        )
    return DigitSet(images, labels)


def _read(path: Path, magic: int, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    size = file_size(path)
    zipped = path.suffix == ".gz"
    with reported(path), _gzip_reported(path), _open(path, zipped) as stream:
        return _parse(stream, path, size, zipped, magic, item_shape)


def _open(path: Path, zipped: bool) -> io.BufferedIOBase:
    return gzip.open(path) if zipped else path.open("rb")


def _parse(
    stream: io.BufferedIOBase,
    path: Path,
    size: int,
    zipped: bool,
    magic: int,
    item_shape: tuple[int, ...],
) -> NDArray[np.uint8]:
    """Read header and values, allocating only once the file is known to be big enough."""
    fields = f">{2 + len(item_shape)}I"
    start = struct.calcsize(fields)
    head = stream.read(start)
    if len(head) < start:
        raise DataError(f"{path}: ends after {len(head)} bytes, within its header; {REPLACE}")
    found, count, *shape = struct.unpack(fields, head)
    if found != magic:
        hint = f"name it {path.name}.gz" if found >> 16 == _GZIP_MAGIC else REPLACE
        raise DataError(f"{path}: starts with {found:#010x}, want the magic {magic:#010x}; {hint}")
    if tuple(shape) != item_shape:
        raise DataError(f"{path}: images of {shape[0]}×{shape[1]}, want 28×28; give MNIST's size")
    if count == 0:
        raise DataError(f"{path}: holds nothing, want at least one digit; {REPLACE}")

    wanted = count * int(np.prod(item_shape, dtype=np.int64))
    if start + wanted > (size * MOST_EXPANSION if zipped else size):
        raise DataError(
            f"{path}: its header promises {count} items, {start + wanted} bytes, but it is cut "
            f"short or damaged: {size} bytes{' of gzip' if zipped else ''}; {REPLACE}"
        )
    if zipped and wanted > MOST_BYTES:
        raise DataError(f"{path}: {wanted} bytes are too many to unzip unseen; unzip it yourself")
    values = np.empty((count, *item_shape), dtype=np.uint8)
    filled = read_into(stream, values.reshape(-1).data)
    if filled < wanted:
        raise DataError(f"{path}: ends after {start + filled} of {start + wanted} bytes; {REPLACE}")
    # Asking for one byte more also makes gzip check its own checksum.
    if stream.read(1):
        raise DataError(f"{path}: goes on after its {count} items; {REPLACE}")
    return values


@contextmanager
def _gzip_reported(path: Path) -> Iterator[None]:
    """Turn what unzipping can raise into a `DataError` that names the file."""
    try:
        yield
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged or not gzip data ({error}); {REPLACE}") from error
    except EOFError as error:
        raise DataError(f"{path}: the gzip data are cut short; {REPLACE}") from error
