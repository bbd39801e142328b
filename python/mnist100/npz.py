"""Writing .npz archives, and reading them, models and data alike, without trusting them. No pickle.

Names, dtypes, shapes and sizes are read from the headers and checked before anything is allocated, and
an array is filled piece by piece, so that memory stays below what the archive really holds.
"""

from __future__ import annotations

import errno
import io
import lzma
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from ._checks import Array
from .files import read_into

Check: TypeAlias = Callable[[str, tuple[int, ...], np.dtype[Any]], str | None]
"""Called with an entry's name, shape and dtype; returns what is wrong with them, or None."""

MAX_HEADER = 10_000  # bytes; NumPy reads no longer one
MOST_FAULT = 200  # characters of a fault that are shown
MOST_EXPANSION = 1032  # bytes that deflate can make out of one

# What zipfile, zlib and lzma raise for bytes that are not theirs.
_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    OverflowError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
)


class NpzError(ValueError):
    """An .npz file that is damaged or not what it should be; the message names it and the fault."""


def read_npz(path: str | os.PathLike[str], check: Check, *, most_entries: int) -> dict[str, Array]:
    """Every array of an .npz file by name, once `check` has nothing to say against it.

    Parameters
    ----------
    path
        The file.
    check
        Decides on each entry by its header, before its array is allocated.
    most_entries
        How many entries there may be.

    Raises
    ------
    NpzError
        If the file is not an .npz, is damaged, holds objects, or `check` finds a fault.
    OSError
        If the file cannot be read.
    """
    file = Path(path)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > most_entries:
                raise _error(file, f"{len(entries)} entries, at most {most_entries}")
            return {_name(info): _read_entry(file, archive, info, check) for info in entries}
    except NpzError:
        raise
    except _DAMAGE as error:
        # A damaged directory can point to before the start of the file, which is EINVAL.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise _error(file, f"not a readable .npz file ({error})") from error


def write_npz(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write arrays of numbers and strings, uncompressed, as `read_npz` reads them."""
    entries: dict[str, Any] = dict(arrays)
    np.savez(file, **entries)


def _read_entry(file: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, check: Check) -> Array:
    name = _name(info)
    with archive.open(info) as stream:
        # Parsed apart: asked for a longer header, NumPy would read all of it before it refuses.
        head = io.BytesIO(stream.read(MAX_HEADER))
        shape, dtype = _header(file, name, head)
        fault = check(name, shape, dtype)
        if fault is not None:
            raise _error(file, f"{name} {fault}")
        size = math.prod(shape) * dtype.itemsize
        if size > MOST_EXPANSION * file.stat().st_size:
            raise _error(file, f"{name} promises {size} bytes, more than the file can hold")
        if head.tell() + size != info.file_size:
            raise _error(file, f"{name} says {shape} {dtype}, which is not its size")
        if size == 0:
            raise _error(file, f"{name} is empty")
        content = np.empty(size, np.uint8)
        begun = head.readinto(content.data)
        if begun + read_into(stream, content.data[begun:]) < size:
            raise _error(file, f"{name} ends before its {size} bytes")
    return content.view(dtype).reshape(shape)


def _error(file: Path, fault: str) -> NpzError:
    # What zipfile and NumPy say, and what entries are called, may be as long and as odd as the file.
    line = "".join(c if c.isprintable() else " " for c in fault)
    return NpzError(f"{file}: {line if len(line) <= MOST_FAULT else line[:MOST_FAULT] + '…'}")


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _header(file: Path, name: str, head: io.BytesIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(head)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(head)
    except (ValueError, KeyError, TypeError, SyntaxError, TokenError, RecursionError) as error:
        raise _error(file, f"{name} is not a NumPy array ({error})") from error
    if (fortran and len(shape) > 1) or dtype.hasobject:
        raise _error(file, f"{name} is {dtype}, column-major or holds objects")
    if min(shape, default=0) < 0 or len(shape) > 4:
        raise _error(file, f"{name} has the impossible shape {shape}")
    return shape, dtype
