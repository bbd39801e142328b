"""CSV files of pairs: written byte for byte, read whole, and refused with a message that names them."""

from __future__ import annotations

import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mnist100.data import DataError, PairSet, csv_pairs
from mnist100.data.pairs import halves

MEBIBYTE = 1 << 20
HEADER = ",".join(["label"] + [f"p{i}" for i in range(1568)])


def pairs_of(count: int) -> PairSet:
    """Pairs with every pixel value, more zeros than anything else, and labels up to 99."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (count, 28, 56), dtype=np.uint8)
    images[rng.random(images.shape) < 0.8] = 0
    return halves(images, (99 - np.arange(count) % 100).astype(np.uint8))


def table_of(pairs: PairSet) -> np.ndarray:
    images = pairs.images(np.arange(len(pairs))).reshape(len(pairs), -1)
    return np.column_stack([pairs.labels, images])


def text_of(pairs: PairSet) -> bytes:
    """What NumPy's own, slow writer makes of the pairs."""
    file = io.BytesIO()
    np.savetxt(file, table_of(pairs), fmt="%d", delimiter=",", header=HEADER, comments="")
    return file.getvalue()


PAIRS = pairs_of(130)
GOOD = text_of(PAIRS)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "pairs.csv"
    path.write_bytes(content)
    return path


def test_a_file_is_written_byte_for_byte() -> None:
    file = io.BytesIO()
    done = list(csv_pairs.write(file, PAIRS))
    assert file.getvalue() == GOOD
    assert done == [64, 128, 130]


ACCEPTED: dict[str, Callable[[bytes], bytes]] = {
    "as written": lambda text: text,
    "no final newline": lambda text: text[:-1],
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "CRLF, no final newline": lambda text: text.replace(b"\n", b"\r\n")[:-1],
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "leading zeros": lambda text: text.replace(b"\n99,", b"\n099,"),
}


@pytest.mark.parametrize("block", [7_000, 1 << 18])
@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED)
def test_a_file_is_read_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[bytes], bytes],
    block: int,
) -> None:
    monkeypatch.setattr(csv_pairs, "_BLOCK_BYTES", block)
    found = csv_pairs.read(written(tmp_path, change(GOOD)))
    np.testing.assert_array_equal(table_of(found), table_of(PAIRS))


def test_progress_ends_with_the_whole_file(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    csv_pairs.read(written(tmp_path, GOOD), lambda *step: steps.append(step))
    assert steps[-1] == ("pairs.csv", len(GOOD), len(GOOD))


LINES = GOOD.decode().splitlines()


def spoilt(line: int, column: int, value: str) -> bytes:
    """The good file with one value replaced; lines are counted from 1, as an editor does."""
    lines = list(LINES)
    cells = lines[line - 1].split(",")
    cells[column] = value
    lines[line - 1] = ",".join(cells)
    return ("\n".join(lines) + "\n").encode()


def without(line: int, column: int) -> bytes:
    cells = LINES[line - 1].split(",")
    return GOOD.replace(LINES[line - 1].encode(), ",".join(cells[:column]).encode())


PIXEL = "want a whole number from 0 to 255"
BAD = {
    "empty": (b"", "is empty; want the header label,p0,…,p1567"),
    "header alone": (HEADER.encode() + b"\n", "holds no rows"),
    "no header": (GOOD.split(b"\n", 1)[1], "line 1 has '99' where label belongs"),
    "other header": (spoilt(1, 5, "pixel4"), "line 1 has 'pixel4' where p4 belongs"),
    "missing column": (without(1, 1568), "line 1 has 1568 columns, want 1569"),
    "extra column": (GOOD.replace(b"\n", b",0\n"), "line 1 has 1570 columns, want 1569"),
    "short row": (without(100, 700), "line 100 has 700 values, want 1569"),
    "long row": (spoilt(101, 3, "1,2"), "line 101 has 1570 values, want 1569"),
    "cut short": (GOOD[:-2000], "line 131 has"),
    "blank line": (GOOD + b"\n", "line 132 has 1 values"),
    "two rows in one": (GOOD.replace(b"\n98,", b",98,"), "line 2 has 3138 values"),
    "stray string": (spoilt(50, 9, "seven"), f"line 50 has 'seven' for p8, {PIXEL}"),
    "no value": (spoilt(131, 1568, ""), f"line 131 has '' for p1567, {PIXEL}"),
    "negative": (spoilt(2, 1, "-3"), f"line 2 has '-3' for p0, {PIXEL}"),
    "too large": (spoilt(70, 2, "256"), f"line 70 has '256' for p1, {PIXEL}"),
    "very large": (spoilt(70, 2, "9" * 99), "for p1, want"),
    "four digits": (spoilt(70, 2, "0001"), f"line 70 has '0001' for p1, {PIXEL}"),
    "float": (spoilt(70, 2, "1.0"), f"line 70 has '1.0' for p1, {PIXEL}"),
    "nan": (spoilt(70, 2, "nan"), f"line 70 has 'nan' for p1, {PIXEL}"),
    "space": (spoilt(70, 2, " 1"), f"line 70 has ' 1' for p1, {PIXEL}"),
    "quotes": (spoilt(70, 2, '"1"'), "for p1, want"),
    "stray return": (spoilt(70, 2, "1\r"), r"line 70 has '1\r' for p1"),
    "binary": (spoilt(70, 2, "\0"), r"line 70 has '\x00' for p1"),
    "label": (spoilt(3, 0, "100"), "line 3 has '100' for label, want a whole number from 0 to 99"),
    "not text": (os.urandom(1 << 10) + b"\n", "line 1 has"),
    "one endless line": (GOOD[:20_000] + b"0," * MEBIBYTE, "values, want 1569"),
}


@pytest.mark.parametrize(("content", "fault"), BAD.values(), ids=BAD)
def test_a_bad_file_is_named_with_its_fault(tmp_path: Path, content: bytes, fault: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        csv_pairs.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert fault in message
    assert "\n" not in message
    assert len(message) < 300 + len(str(path))


def test_both_files_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mnist_train\.csv: does not exist"):
        csv_pairs.read_folder(tmp_path)
    (tmp_path / "mnist_train.csv").write_bytes(GOOD)
    with pytest.raises(DataError, match=r"mnist_test\.csv: does not exist"):
        csv_pairs.read_folder(tmp_path)
    (tmp_path / "mnist_test.csv").mkdir()
    with pytest.raises(DataError, match=r"mnist_test\.csv: is not a regular file"):
        csv_pairs.read_folder(tmp_path)


@pytest.mark.parametrize("size", [8 * MEBIBYTE, 1 << 40])
def test_a_bad_file_costs_little_memory(tmp_path: Path, size: int) -> None:
    path = written(tmp_path, GOOD)
    os.truncate(path, size)  # the rest is zeros that take no room on the disk
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"line 132 has|are too many"):
            csv_pairs.read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Half of a file at the most, for the table that it might be, and the work on one block.
    assert peak < 8 * MEBIBYTE / 2 + 8 * MEBIBYTE
