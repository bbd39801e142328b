"""Finished pairs as CSV, a row a pair: the label, then the 1568 pixels.

The format is that of the NumPy script that this project grew from: the header
``label,p0,…,p1567``, unsigned integers, ``\\n`` line ends. 94 million numbers are too many for a loop
in Python or for a parser of numbers in general, so both ways are a few operations on whole blocks of
bytes. What is read may also have ``\\r\\n`` line ends, a byte order mark, or no line end at its end.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mnist100.data.faults import MOST_BYTES, REPLACE, DataError, FileProgress, file_size, reported
from mnist100.data.normalisation import IMAGE_SHAPE
from mnist100.data.pairs import CLASSES, PairSet, halves

TRAIN_NAME = "mnist_train.csv"
TEST_NAME = "mnist_test.csv"

_PIXELS = IMAGE_SHAPE[0] * IMAGE_SHAPE[1]
_COLUMNS = ("label", *(f"p{pixel}" for pixel in range(_PIXELS)))
_HEADER = ",".join(_COLUMNS).encode()
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ZERO, _NINE, _COMMA, _NEWLINE = b"09,\n"

# A digit and a comma for every column.
_SHORTEST_ROW = 2 * len(_COLUMNS)
# Some 70 rows: what is made of a block while it is read or written stays in the second-level cache.
_BLOCK_BYTES = 1 << 18
_BLOCK_ROWS = 64


def read_folder(folder: Path, progress: FileProgress | None = None) -> tuple[PairSet, PairSet]:
    """Read ``mnist_train.csv`` and ``mnist_test.csv``.

    Raises
    ------
    DataError
        If one is missing or is not what it should be.
    """
    return read(folder / TRAIN_NAME, progress), read(folder / TEST_NAME, progress)


def read(path: Path, progress: FileProgress | None = None) -> PairSet:
    """Read a file, in memory bounded by its size.

    Parameters
    ----------
    path : Path
    progress : callable or None
        Called as ``progress(file_name, bytes_so_far, bytes_in_all)``.

    Raises
    ------
    DataError
        If it is missing, has another header, no row, a row with more or fewer values, or a value
        that is not a whole number from 0 to 255, or for a label, to 99.
    """
    size = file_size(path)
    most = size // _SHORTEST_ROW + 1
    if most * _PIXELS > MOST_BYTES:
        raise DataError(f"{path}: {size} bytes are too many; give a smaller file")
    images = np.empty((most, _PIXELS), np.uint8)
    labels = np.empty(most, np.uint8)
    count = 0
    with reported(path), path.open("rb") as stream:
        _check_header(path, stream.readline(2 * len(_HEADER)))
        for block in _blocks(stream):
            values = _parse(block)
            if values is None:
                # The header is line 1.
                raise DataError(f"{path}: {next(_faults(block, count + 2))}; {REPLACE}")
            rows = slice(count, count + len(values))
            labels[rows], images[rows] = values[:, 0], values[:, 1:]
            count += len(values)
            if progress is not None:
                progress(path.name, stream.tell(), size)
    if count == 0:
        raise DataError(f"{path}: holds no rows, want at least one; {REPLACE}")
    return halves(images[:count].reshape(-1, *IMAGE_SHAPE), labels[:count])


def write(file: BinaryIO, pairs: PairSet) -> Iterator[int]:
    """Write pairs in their order, yielding how many there are after each block."""
    file.write(_HEADER + b"\n")
    within, last = (
        np.array([f"{value}{mark}" for value in range(256)], dtype="S4").view(np.uint32)
        for mark in ",\n"
    )
    for start in range(0, len(pairs), _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, len(pairs)))
        images = pairs.images(rows).reshape(len(rows), _PIXELS)
        # Four bytes a value, padded with zeros, which are then left out.
        padded = np.empty((len(rows), len(_COLUMNS)), np.uint32)
        padded[:, 0] = within[pairs.labels[rows]]
        padded[:, 1:-1] = within[images[:, :-1]]
        padded[:, -1] = last[images[:, -1]]
        text = padded.view(np.uint8)
        file.write(text[text != 0].data)
        yield start + len(rows)


def _check_header(path: Path, line: bytes) -> None:
    found = line.removeprefix(_BYTE_ORDER_MARK).removesuffix(b"\n").removesuffix(b"\r")
    if found == _HEADER:
        return
    names = found.split(b",")
    if not line:
        fault = "is empty"
    elif len(names) != len(_COLUMNS):
        fault = f"line 1 has {len(names)} columns, want {len(_COLUMNS)}"
    else:
        column, name = next(
            (column, name) for column, name in enumerate(names) if name != _COLUMNS[column].encode()
        )
        fault = f"line 1 has {_shown(name)} where {_COLUMNS[column]} belongs"
    raise DataError(f"{path}: {fault}; want the header label,p0,…,p{_PIXELS - 1}")


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of a file in blocks of whole lines, each line ended by a newline alone."""
    rest = b""
    while more := stream.read(_BLOCK_BYTES):
        block = rest + more
        cut = block.rfind(b"\n") + 1
        if cut == 0 and len(block) > _BLOCK_BYTES:
            break  # longer than any row: this fault need not be read to its end
        rest = block[cut:]
        if cut:
            yield block[:cut].replace(b"\r\n", b"\n")
    if rest:
        yield rest.removesuffix(b"\r") + b"\n"


def _parse(block: bytes) -> NDArray[np.uint8] | None:
    """Return the values of a block of lines, uint8 (rows, 1569); None if anything is wrong."""
    codes = np.frombuffer(block, np.uint8)
    # Comma and newline come before the digits, and nothing that may be here comes after them.
    ends = np.flatnonzero(codes < _ZERO)
    if codes.max() > _NINE or len(ends) % len(_COLUMNS):
        return None
    marks = codes[ends].reshape(-1, len(_COLUMNS))
    if (marks[:, :-1] != _COMMA).any() or (marks[:, -1] != _NEWLINE).any():
        return None
    lengths = np.diff(ends, prepend=-1) - 1
    if lengths.min() < 1 or lengths.max() > 3:
        return None
    values = codes[ends - 1] - np.uint8(_ZERO)
    # Four in five are a single digit, so the other two places are looked at only where they are.
    longer = np.flatnonzero(lengths > 1)
    last = ends[longer]
    tens = (codes[last - 2] - np.uint8(_ZERO)).astype(np.uint16)
    hundreds = np.where(lengths[longer] > 2, codes[last - 3] - np.uint8(_ZERO), np.uint16(0))
    numbers = 100 * hundreds + 10 * tens + values[longer]
    if numbers.max(initial=0) > 255:
        return None
    values[longer] = numbers
    table = values.reshape(-1, len(_COLUMNS))
    return table if table[:, 0].max() < CLASSES else None


def _faults(block: bytes, first_line: int) -> Iterator[str]:
    """Yield in words what `_parse` found wrong with a block whose first line has this number."""
    for number, line in enumerate(block.removesuffix(b"\n").split(b"\n"), first_line):
        cells = line.split(b",")
        if len(cells) != len(_COLUMNS):
            yield f"line {number} has {len(cells)} values, want {len(_COLUMNS)}"
        for name, cell in zip(_COLUMNS, cells, strict=False):
            most = CLASSES - 1 if name == "label" else 255
            if not (cell.isdigit() and len(cell) <= 3 and int(cell) <= most):
                got = f"line {number} has {_shown(cell)} for {name}"
                yield f"{got}, want a whole number from 0 to {most}"


def _shown(cell: bytes) -> str:
    return reprlib.repr(cell.decode("ascii", "backslashreplace"))
