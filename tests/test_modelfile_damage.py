"""Model files that are not what they should be are refused, in bounded memory, by name."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mnist100
from mnist100.modelfile import ModelFileError, save_model
from model_files import Arrays, assert_same_model, contents, refused, rewrite, trained


@pytest.mark.parametrize("size", [0, 1, 3, 100, 5000, -1, -30, -1000, -100_000])
def test_truncated_files(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    refused(saved, "not a readable .npz file")


def test_other_bytes(saved: Path) -> None:
    for other in (b"\x93NUMPY" * 100, b"PK\x05\x06" + bytes(18), b"\0" * 4096):
        saved.write_bytes(other)
        refused(saved)


def flipped(good: bytes, place: int, rng: np.random.Generator) -> bytes:
    bad = bytearray(good)
    bad[place] ^= 1 << int(rng.integers(8))
    return bytes(bad)


def test_flipped_bits_of_data_are_noticed(saved: Path) -> None:
    good, rng = saved.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(1000, len(good) - 2000, 20):
        saved.write_bytes(flipped(good, place, rng))
        refused(saved)


def test_flipped_bits_of_the_directory_do_no_harm(saved: Path) -> None:
    """Either refused, or in a field that says nothing about the model, such as a time."""
    good, rng, expected = saved.read_bytes(), np.random.default_rng(0), trained()
    directory = good.index(b"PK\x01\x02")
    ends = range(len(good) - 110, len(good), 2)
    for place in [*range(0, 40, 2), *range(directory, directory + 60, 2), *ends]:
        saved.write_bytes(flipped(good, place, rng))
        try:
            loaded = mnist100.load_model(saved)
        except ModelFileError:
            continue
        assert_same_model(loaded, expected)


CHANGES: list[tuple[Arrays, str]] = [
    ({"fc1_W": None}, "no entry fc1_W"),
    ({"mean": None}, "no entry mean"),
    ({"std": None}, "no entry std"),
    ({"extra": np.zeros(3)}, "unknown entries ['extra']"),
    ({"fc1_b": np.zeros(256)}, "fc1_b has shape (256,), not (256, 1)"),
    ({"conv1_W": np.zeros((16, 3, 3, 1))}, "conv1_W has shape (16, 3, 3, 1)"),
    ({"fc2_W": np.zeros((256, 100)).T}, "column-major"),
    ({"fc2_b": np.zeros((0, 1))}, "fc2_b is empty"),
    ({"fc2_b": np.zeros((100, 1), np.int32)}, "fc2_b is int32"),
    ({"fc2_b": np.zeros((100, 1), np.complex64)}, "fc2_b is complex64"),
    ({"fc2_b": np.full((100, 1), np.nan)}, "fc2_b holds values that are not finite"),
    ({"fc2_b": np.full((100, 1), np.inf)}, "fc2_b holds values that are not finite"),
    ({"fc2_b": np.full((100, 1), 1e300)}, "fc2_b holds values that are not finite"),
    ({"mean": np.full((1568, 1), np.nan)}, "mean holds values that are not finite"),
    ({"std": np.zeros((1568, 1))}, "std has a value below 1e-30"),
    ({"std": np.full((1568, 1), 1e-60)}, "std has a value below 1e-30"),
    ({"std": np.full((1568, 1), -1.0)}, "std has a value below 1e-30"),
    ({"fc1_W": np.zeros((256, 3136 * 2))}, "bytes, at most"),
    ({"metadata": np.zeros(3)}, "metadata is float64 (3,), not one string"),
    ({"metadata": np.array(["{}"])}, "not one string"),
    ({"metadata": np.array("x" * 300_000)}, "metadata has"),
    ({"metadata": np.array("not JSON")}, "metadata is not JSON"),
    ({"metadata": np.array("[" * 200_000)}, "metadata is not JSON"),
    ({"metadata": np.array("[]")}, "metadata is not a JSON object"),
    ({"metadata": np.array("{}")}, "metadata is not a JSON object"),
    ({"metadata": np.array('{"architecture": "cnn"}')}, "clip is None"),
    ({"metadata": np.array('{"clip": -1}')}, "clip is -1"),
    ({"metadata": np.array('{"clip": NaN}')}, "clip is nan"),
    ({"metadata": np.array('{"clip": "3"}')}, "clip is '3'"),
    ({"metadata": np.array('{"clip": true}')}, "clip is True"),
    ({"metadata": np.array('{"clip": 1' + "0" * 400 + "}")}, "clip is 1"),
    (
        {"metadata": np.array('{"clip": 0, "test_shifts": 5}')},
        "test_shifts is 5, not a whole number",
    ),
    ({"metadata": np.array('{"clip": 0, "test_shifts": true}')}, "test_shifts is True"),
    ({"metadata": np.array('{"architecture": "resnet", "clip": 0}')}, "'resnet'"),
    ({"metadata": np.array('{"architecture": ["cnn"], "clip": 0}')}, "['cnn']"),
    ({"metadata": np.array('{"architecture": "mlp", "clip": 0}')}, "fc1_W has shape"),
]


@pytest.mark.parametrize(("changes", "message"), CHANGES, ids=[m for _, m in CHANGES])
def test_wrong_entries(saved: Path, changes: Arrays, message: str) -> None:
    rewrite(saved, **changes)
    refused(saved, message)


def raw_entry(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """A .npy file with any header one likes."""
    width = 2 if version == 1 else 4
    encoded = header.encode()
    return (
        b"\x93NUMPY" + bytes([version, 0]) + len(encoded).to_bytes(width, "little") + encoded + data
    )


def npy_header(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n"


ODD_ENTRIES = {
    "absurd shape": raw_entry(npy_header("(1000000000, 1000000000)"), bytes(64)),
    "shape beyond int64": raw_entry(npy_header(f"({10**40},)"), bytes(64)),
    "negative shape": raw_entry(npy_header("(-4, -4)"), bytes(64)),
    "many axes": raw_entry(npy_header("(" + "1, " * 100 + ")"), bytes(4)),
    "not a dtype": raw_entry(npy_header("(4,)", "'<q9'"), bytes(16)),
    "list for dtype": raw_entry(npy_header("(4,)", "[('a', '<f4')]"), bytes(16)),
    "nothing sensible": raw_entry("{[(\n", bytes(16)),
    "odd indent": raw_entry("  {\n 1\n", bytes(16)),
    "nested": raw_entry("(" * 5000, bytes(16)),
    "long header": raw_entry("#" * 20_000, bytes(16), version=2),
    "unknown version": raw_entry(npy_header("(4,)"), bytes(16), version=9),
    "not an array": b"hello",
    "empty": b"",
    "object array": raw_entry(npy_header("(1,)", "'|O'"), b"\x80\x04N."),
}


@pytest.mark.parametrize("entry", ODD_ENTRIES.values(), ids=ODD_ENTRIES)
def test_odd_entries(saved: Path, entry: bytes) -> None:
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("fc1_W.npy", entry)
    refused(saved, "fc1_W")


def test_pickles_are_never_loaded(saved: Path, tmp_path: Path) -> None:
    arrays = {**contents(saved), "fc2_b": np.array([lambda_file(tmp_path / "ran")], dtype=object)}
    np.savez(saved, **arrays)
    refused(saved, "fc2_b")
    assert not (tmp_path / "ran").exists()


def lambda_file(path: Path) -> object:
    """An object whose unpickling makes a file."""

    class Maker:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(path),)

    return Maker()


@pytest.mark.parametrize("name", ["fc1_W.npy", "metadata.npy", "unknown.npy"])
@pytest.mark.parametrize(
    "start",
    [
        raw_entry("", version=2)[:8] + (2**31).to_bytes(4, "little"),
        raw_entry(npy_header("(10000000,)", "'<f4'")),
    ],
    ids=["header", "data"],
)
def test_bombs_do_not_fill_the_memory(saved: Path, name: str, start: bytes) -> None:
    with (
        zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w") as entry,
    ):
        entry.write(start)
        for _ in range(40):
            entry.write(bytes(1_000_000))
    tracemalloc.start()
    try:
        refused(saved, name.removesuffix(".npy"))
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_file_of_many_entries_is_not_read(saved: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((100, 1), np.float32))
    with zipfile.ZipFile(saved, "w") as archive:
        for i in range(200):
            archive.writestr(f"entry{i}.npy", buffer.getvalue())
    refused(saved, "200 entries")


def test_a_negative_variance_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_model(trained("siamese"), path)
    rewrite(path, bn2_1_var=np.full((32, 1), -1e-3))
    refused(path, "bn2_1_var has a value below 0")
    rewrite(path, bn2_1_var=None)
    refused(path, "no entry bn2_1_var")


@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        ((300, 1, 3, 3), "300 channels, at most 256 allowed"),
        ((17, 1, 3, 3), "bn1_1_gamma has shape (16, 1), not (17, 1)"),
        ((16,), "conv1_1_W has shape (16,), not"),
    ],
)
def test_widths_that_do_not_fit_are_refused(
    shape: tuple[int, ...], fault: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.npz"
    save_model(trained("siamese"), path)
    rewrite(path, conv1_1_W=np.zeros(shape, np.float32))
    refused(path, fault)


@pytest.mark.parametrize(
    ("name", "fault"),
    [("conv2_4_W", "conv2_3_W"), ("conv5_1_W", "conv4_1_W"), ("conv6_1_W", "5 stages, at most 4")],
)
def test_convolutions_with_a_gap_are_refused(name: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_model(trained("siamese"), path)
    extra = {"conv4_1_W": np.zeros((8, 64, 3, 3), np.float32)} if name == "conv6_1_W" else {}
    rewrite(path, **{name: np.zeros((8, 64, 3, 3), np.float32)}, **extra)
    refused(path, fault)
