"""Writing files so that a reader, or a crash, never meets half of one; reading into memory at hand."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

_PIECE = 1 << 20


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends, and vanishes if the block fails.

    A temporary file in the same folder, fsync, `os.replace`, fsync of the folder. Raises OSError where
    any of these does; `path` then is as it was.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_writable(folder: Path, *, option: str = "--out") -> None:
    """Make sure that files could be written into `folder`, which need not exist, without making anything.

    Raises OSError if it is not a folder, or it or the nearest existing folder above it cannot be written
    to; the message says to give another `option`.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(f"{existing}: is not a folder; give another {option}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"{existing}: cannot be written to; give another {option}")


def check_new_file(path: Path, *, option: str = "--out") -> None:
    """Make sure that `path` could be written and that nothing is there yet, without making anything.

    Raises FileExistsError, or OSError as `check_writable` does; the message says to give another `option`.
    """
    if os.path.lexists(path):
        raise FileExistsError(f"{path}: exists already; give another {option}")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"{path.parent}: is not a folder; give another {option}")
    check_writable(path.parent, option=option)


def read_into(stream: IO[bytes] | io.BufferedIOBase, target: memoryview) -> int:
    """Read into `target` until it is full or the stream ends; return the bytes read."""
    filled = 0
    while filled < len(target):
        # In pieces, as what unzips makes a temporary copy as large as what it is asked for.
        got = stream.read(min(_PIECE, len(target) - filled))
        if not got:
            break
        target[filled : filled + len(got)] = got
        filled += len(got)
    return filled


def _umask() -> int:
    # The only way to read it is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
