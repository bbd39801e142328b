"""What all readers of data files share: the error they raise, and how they first look at a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

REPLACE = "replace it with a good copy"

MOST_BYTES = 1 << 30
"""Most bytes that one table may take in memory, 17 times those of MNIST-100."""

FileProgress: TypeAlias = Callable[[str, int, int], None]
"""Called with a file's name, the bytes so far and the bytes in all (0 if unknown)."""


class DataError(ValueError):
    """A data file or folder is missing, damaged or not what it should be."""


def file_size(path: Path) -> int:
    """Return the bytes of a regular file.

    Raises
    ------
    DataError
        If there is none, or what is there is a folder, a pipe or the like.
    """
    with reported(path):
        if not path.is_file():
            fault = "is not a regular file" if path.exists() else "does not exist"
            raise DataError(f"{path}: {fault}; {REPLACE}")
        return path.stat().st_size


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an `OSError` into a `DataError` that names the file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
