"""IDX files: good ones are read, bad ones are refused with a message that names them."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mnist100.data import DataError, read_folder
from mnist100.data.idx import read_images, read_labels

IMAGES = np.arange(3 * 28 * 28).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([7, 0, 9], dtype=np.uint8)
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
MEBIBYTE = 1 << 20


def image_bytes(
    *, magic: int = 0x803, count: int = 3, rows: int = 28, body: bytes = IMAGES.tobytes()
) -> bytes:
    return struct.pack(">4I", magic, count, rows, 28) + body


def label_bytes(*, magic: int = 0x801, count: int = 3, body: bytes = LABELS.tobytes()) -> bytes:
    return struct.pack(">2I", magic, count) + body


def fill(folder: Path, *, zipped: bool) -> None:
    for name in NAMES:
        data = image_bytes() if "images" in name else label_bytes()
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(data) if zipped else data)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_gives_its_digits(tmp_path: Path, zipped: bool) -> None:
    fill(tmp_path, zipped=zipped)
    for digits in read_folder(tmp_path):
        np.testing.assert_array_equal(digits.images, IMAGES)
        np.testing.assert_array_equal(digits.labels, LABELS)


def test_each_file_of_a_folder_may_be_zipped_or_not(tmp_path: Path) -> None:
    fill(tmp_path, zipped=False)
    plain = tmp_path / NAMES[0]
    (tmp_path / f"{NAMES[0]}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    train, _ = read_folder(str(tmp_path))
    np.testing.assert_array_equal(train.images, IMAGES)


def test_the_unzipped_file_comes_first(tmp_path: Path) -> None:
    fill(tmp_path, zipped=False)
    (tmp_path / f"{NAMES[1]}.gz").write_bytes(b"not read")
    train, _ = read_folder(tmp_path)
    np.testing.assert_array_equal(train.labels, LABELS)


ZIPPED = gzip.compress(image_bytes())
BAD_IMAGES = {
    "empty": ("images", b"", "ends after 0 bytes"),
    "empty gzip": ("images.gz", b"", "ends after 0 bytes"),
    "half a header": ("images", image_bytes()[:9], "ends after 9 bytes"),
    "labels": ("images", label_bytes(body=bytes(20)), "0x00000801, want the magic 0x00000803"),
    "gzip without .gz": ("images", ZIPPED, "name it images.gz"),
    "image size": ("images", image_bytes(rows=32), "images of 32×28, want 28×28"),
    "no images": ("images", image_bytes(count=0, body=b""), "holds nothing"),
    "short": ("images", image_bytes()[:-1], "promises 3 items, 2368 bytes"),
    "long": ("images", image_bytes() + b"\0", "goes on after its 3 items"),
    "absurd count": ("images", image_bytes(count=2**32 - 1), "promises 4294967295 items"),
    "absurd count, gzip": (
        "images.gz",
        gzip.compress(image_bytes(count=2**32 - 1)),
        "promises 4294967295 items",
    ),
    "gzip that claims to be huge": (
        "images.gz",
        gzip.compress(image_bytes(count=1_400_000), 0) + bytes(2 * MEBIBYTE),
        "unzip it yourself",
    ),
    "short, gzip": ("images.gz", gzip.compress(image_bytes(count=4)), "ends after 2368 of 3152"),
    "long, gzip": ("images.gz", gzip.compress(image_bytes() + b"\0"), "goes on after"),
    "not gzip": ("images.gz", image_bytes(), "not gzip data"),
    "gzip cut short": ("images.gz", ZIPPED[:-12], "cut short"),
    "gzip checksum": ("images.gz", ZIPPED[:-8] + b"abcd" + ZIPPED[-4:], "CRC"),
    "gzip garbage inside": ("images.gz", ZIPPED[:10] + b"\xff" * 40, "damaged"),
    "gzip garbage behind": ("images.gz", ZIPPED + b"garbage", "not gzip data"),
}


@pytest.mark.parametrize(("name", "data", "fault"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_a_bad_file_is_named_with_its_fault(
    tmp_path: Path, name: str, data: bytes, fault: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_images(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert fault in str(caught.value)


def test_a_label_above_nine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(label_bytes(body=bytes([1, 10, 2])))
    with pytest.raises(DataError, match="label 10, want 0 to 9"):
        read_labels(path)


def test_images_and_labels_must_be_equally_many(tmp_path: Path) -> None:
    fill(tmp_path, zipped=False)
    (tmp_path / NAMES[3]).write_bytes(label_bytes(count=2, body=bytes(2)))
    with pytest.raises(DataError, match=f"{NAMES[3]}: 2 labels for the 3 images"):
        read_folder(tmp_path)


def test_missing_files_are_listed(tmp_path: Path) -> None:
    fill(tmp_path, zipped=True)
    for name in NAMES[1:3]:
        (tmp_path / f"{name}.gz").unlink()
    with pytest.raises(DataError, match=f"has no {NAMES[1]}, {NAMES[2]} "):
        read_folder(tmp_path)


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    fill(tmp_path, zipped=False)
    (tmp_path / NAMES[0]).unlink()
    (tmp_path / NAMES[0]).mkdir()
    with pytest.raises(DataError, match=f"{NAMES[0]}: is not a regular file"):
        read_folder(tmp_path)


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="not a folder"):
        read_folder(tmp_path / "file")
    with pytest.raises(DataError, match="nowhere: does not exist"):
        read_images(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        # The count is believed only as far as the file can hold it.
        ("images", image_bytes(count=10**6)),
        ("images.gz", gzip.compress(image_bytes(count=10**6))),
        # One image, and 32 MiB that nobody asked for.
        ("images.gz", gzip.compress(image_bytes(count=1, body=bytes(32 * MEBIBYTE)), 1)),
    ],
)
def test_a_bad_file_costs_little_memory(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read_images(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MEBIBYTE
