"""Writing files atomically."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mnist100.files import atomic_writer


def interrupt_while_writing(path: Path) -> None:
    with atomic_writer(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        interrupt_while_writing(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_have_the_usual_mode(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_writer(tmp_path / "file") as file:
            file.write(b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
