"""Npz files of pairs: the public layout is written and read, anything else is refused."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist100.data import DataError, npz_pairs
from mnist100.data.pairs import halves

MEBIBYTE = 1 << 20

Arrays = dict[str, np.ndarray]


def good() -> Arrays:
    rng = np.random.default_rng(4)
    return {
        "train_images": rng.integers(0, 256, (7, 28, 56), dtype=np.uint8),
        "train_labels": np.array([0, 9, 10, 55, 90, 98, 99], dtype=np.uint8),
        "test_images": rng.integers(0, 256, (2, 28, 56), dtype=np.uint8),
        "test_labels": np.array([42, 1], dtype=np.uint8),
    }


def packed(arrays: Arrays, save: Any = np.savez) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def written(folder: Path, content: bytes) -> Path:
    path = folder / "pairs.npz"
    path.write_bytes(content)
    return path


def read_arrays(path: Path) -> Arrays:
    found: Arrays = {}
    for split, pairs in zip(("train", "test"), npz_pairs.read(path), strict=True):
        found[f"{split}_images"] = pairs.images(np.arange(len(pairs)))
        found[f"{split}_labels"] = pairs.labels
    return found


def test_pairs_are_written_in_the_public_layout(tmp_path: Path) -> None:
    arrays = good()
    sets = [
        halves(arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in ("train", "test")
    ]
    path = tmp_path / "pairs.npz"
    with path.open("wb") as file:
        npz_pairs.write(file, *sets)
    with np.load(path) as found:
        assert set(found.files) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">u2"])
def test_the_public_layout_is_read(tmp_path: Path, save: Any, dtype: str) -> None:
    arrays = good()
    for name in ("train_labels", "test_labels"):
        arrays[name] = arrays[name].astype(dtype)
    found = read_arrays(written(tmp_path, packed(arrays, save)))
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def changed(**changes: np.ndarray | None) -> bytes:
    arrays = good()
    for name, array in changes.items():
        if array is None:
            del arrays[name]
        else:
            arrays[name] = array
    return packed(arrays)


def entry(name: str, content: bytes) -> bytes:
    """The good archive with the bytes of one entry replaced."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(changed())) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            old_content = old.read(info)
            new.writestr(info, content if info.filename == f"{name}.npy" else old_content)
    return file.getvalue()


def header(shape: str, descr: str = "'|u1'", version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


def deflated(content: bytes) -> bytes:
    """An archive that holds train_images alone, compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("train_images.npy", content)
    return file.getvalue()


def lie() -> bytes:
    """An archive in which header and directory agree on images that are not there."""
    head = header("(600000, 28, 56)")
    size, claim = (len(head) + length for length in (1000, 600_000 * 28 * 56))
    content = deflated(head + bytes(1000))
    return content.replace(size.to_bytes(4, "little"), claim.to_bytes(4, "little"))


IMAGES = good()["train_images"]
LABELS = good()["train_labels"]
GOOD = changed()
BAD = {
    "empty": (b"", "not a readable .npz"),
    "no archive": (b"label,p0\n1,2\n", "not a readable .npz"),
    "cut short": (GOOD[:-300], "not a readable .npz"),
    "start missing": (GOOD[300:], "not a readable .npz"),
    "directory lies": (lie(), "more than the file can hold"),
    "a bit flipped": (flipped(GOOD, 5000), "Bad CRC-32"),
    "entry missing": (changed(test_images=None), "has no test_images"),
    "another entry": (packed({"weights": IMAGES}), "weights does not belong there"),
    "a long name, over lines": (packed({"weight\n" * 999: IMAGES}), "weight weight "),
    "too many entries": (changed(extra=LABELS), "5 entries, at most 4"),
    "float images": (
        changed(train_images=np.full((7, 28, 56), np.nan)),
        "train_images is float64, want uint8",
    ),
    "float labels": (changed(train_labels=np.full(7, np.inf)), "is float64, want integers"),
    "objects": (changed(train_labels=np.array([print] * 7)), "holds objects"),
    "other size": (changed(train_images=IMAGES[:, :, 1:]), "has shape (7, 28, 55), want (N, 28,"),
    "flat": (changed(train_images=IMAGES.reshape(7, -1)), "has shape (7, 1568), want (N, 28, 56)"),
    "labels in a column": (changed(train_labels=LABELS[:, None]), "has shape (7, 1), want (N)"),
    "no pairs": (changed(train_images=IMAGES[:0], train_labels=LABELS[:0]), "is empty"),
    "counts": (changed(train_labels=LABELS[:6]), "6 train_labels for 7 train_images"),
    "label 100": (changed(train_labels=LABELS + np.uint8(1)), "train_labels holds 100, want 0 to"),
    "label -1": (changed(test_labels=np.array([-1, 5])), "test_labels holds -1, want 0 to 99"),
    "no magic": (entry("train_labels", b"seven labels"), "train_labels is not a NumPy array"),
    "absurd count": (entry("train_images", header("(10**18, 28, 56)")), "not a NumPy array"),
    "huge count": (
        entry("train_images", header("(1000000000000, 28, 56)")),
        "1568000000000000 bytes, at most",
    ),
    "wrong count": (entry("train_images", header("(8, 28, 56)")), "is not its size"),
    "negative count": (entry("train_images", header("(-1, 28, 56)")), "impossible shape"),
    "endless header": (
        entry("train_labels", b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little")),
        "not a NumPy array",
    ),
}


@pytest.mark.parametrize(("content", "fault"), BAD.values(), ids=BAD)
def test_a_bad_file_is_named_with_its_fault(tmp_path: Path, content: bytes, fault: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        npz_pairs.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a regular file"):
        npz_pairs.read(tmp_path)
    with pytest.raises(DataError, match="nowhere: does not exist"):
        npz_pairs.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "make",
    [
        # It goes on after the one pair that it announces.
        lambda: deflated(header("(1, 28, 56)") + bytes(64 * MEBIBYTE)),
        # Its header never ends.
        lambda: deflated(b"\x93NUMPY\x02\x00\0\0\0\4" + bytes(64 * MEBIBYTE)),
        # 600,000 pairs are allowed, but they are not there.
        lambda: entry("train_images", header("(600000, 28, 56)")),
        lie,
    ],
)
def test_a_bad_file_costs_little_memory(tmp_path: Path, make: Callable[[], bytes]) -> None:
    path = written(tmp_path, make())
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            npz_pairs.read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MEBIBYTE
