"""Model files: plain arrays in an .npz, named as the NumPy script this project grew from named them.

``conv1_W (16,1,3,3)``, ``conv1_b (16,1)``, …, ``mean (1568,1)``, ``std (1568,1)`` and one JSON string,
``metadata``. Biases and statistics are columns in the file. No pickle: names, dtypes, shapes and sizes
are read from the headers and checked before anything is allocated. A file without ``metadata`` is that
script's own, and is used as it used it: std at least 1e-8, no clip.
"""

from __future__ import annotations

import errno
import json
import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ._checks import Array
from .files import atomic_writer

if TYPE_CHECKING:
    from .models import Model

MODEL_NAME = "model.npz"
METADATA = "metadata"
MAX_METADATA = 1 << 20  # bytes; far more than any run writes
MAX_HEADER = 10_000  # bytes; NumPy reads no longer one
MAX_ENTRIES = 32  # more than any architecture has
PIXELS = 28 * 56
ORIGIN_STD_FLOOR = 1e-8


# What zipfile, zlib and lzma raise for bytes that are not theirs.
DAMAGE = (
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


class ModelFileError(ValueError):
    """A file that is not a model this package can read."""


def save_model(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path` atomically.

    Raises ValueError if the model has no normalisation and OSError if the disk is full.
    """
    if model.normalisation is None:
        raise ValueError("model.normalisation: got None, wants that of the training set")
    norm = model.normalisation
    facts = {**model.metadata, "architecture": model.architecture, "clip": norm.clip}
    # First, so that no damage which loses the last entries can pass for a file that never had it.
    arrays = {METADATA: np.array(json.dumps(facts))}
    arrays |= {p.name: _column(p.value) for p in model.parameters()}
    arrays["mean"] = norm.mean.reshape(PIXELS, 1)
    arrays["std"] = norm.std.reshape(PIXELS, 1)
    with atomic_writer(path) as file:
        np.savez(file, **arrays)  # all numbers and one string: nothing to pickle


def load_model(path: str | os.PathLike[str]) -> Model:
    """The model in a file, or the best one of a run folder.

    Raises FileNotFoundError, or ModelFileError naming the file and what is wrong with it.
    """
    from .data import Normalisation  # deferred: data is not needed to import mnist100
    from .models import ARCHITECTURES

    file = model_path(path)
    arrays, facts = _read(file)
    architecture = facts.get("architecture", "cnn")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelFileError(f"{file}: architecture {architecture!r} is not one of {known}")
    model = ARCHITECTURES[architecture]()
    for parameter in model.parameters():
        value = _take(file, arrays, parameter.name, _column(parameter.value).shape)
        parameter.value[...] = value.reshape(parameter.value.shape)
    mean = _take(file, arrays, "mean", (PIXELS, 1))
    std = _take(file, arrays, "std", (PIXELS, 1))
    clip: Any = 0.0
    if facts:
        clip = facts.get("clip")
        if isinstance(clip, bool) or not isinstance(clip, int | float) or not 0 <= clip < 1e6:
            raise ModelFileError(f"{file}: metadata: clip is {clip!r}, not a number from 0 up")
    else:
        std = np.maximum(std, ORIGIN_STD_FLOOR)
    if not std.min() > 0:
        raise ModelFileError(f"{file}: std has a value that is not positive")
    if arrays:
        raise ModelFileError(f"{file}: unknown entries {sorted(arrays)}")
    model.normalisation = Normalisation(
        mean=mean.reshape(28, 56),
        std=std.reshape(28, 56),
        clip=float(clip),
    )
    model.metadata = facts
    return model


def model_path(path: str | os.PathLike[str]) -> Path:
    """The model file of a run folder, or the file itself. Raises FileNotFoundError."""
    found = Path(path)
    if found.is_dir():
        found = found / MODEL_NAME
        if not found.is_file():
            raise FileNotFoundError(f"{path}: no {MODEL_NAME} here; is this the folder of a run?")
    if not found.is_file():
        raise FileNotFoundError(f"{path}: no such run folder or model file")
    return found


def _column(value: Array) -> Array:
    return value.reshape(-1, 1) if value.ndim == 1 else value


def _read(file: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Every entry of the archive and the metadata, apart."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES:
                raise ModelFileError(f"{file}: {len(entries)} entries, at most {MAX_ENTRIES}")
            arrays = {_name(info): _read_entry(file, archive, info) for info in entries}
    except ModelFileError:
        raise
    except DAMAGE as error:
        # EINVAL: the archive points before its own start.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ModelFileError(f"{file}: not a readable .npz file ({error})") from error
    text = arrays.pop(METADATA, None)
    if text is None:
        return arrays, {}
    try:
        facts = json.loads(str(text))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{file}: metadata is not JSON ({error})") from error
    if not isinstance(facts, dict) or not facts:
        raise ModelFileError(f"{file}: metadata is not a JSON object")
    return arrays, facts


def _read_entry(file: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """One array, once its header says that it is no larger than what the archive holds."""
    name = _name(info)
    limit = MAX_METADATA if name == METADATA else _largest_tensor()
    if info.file_size > limit + MAX_HEADER:
        raise ModelFileError(f"{file}: {name} has {info.file_size} bytes, at most {limit} allowed")
    with archive.open(info) as stream:
        shape, dtype = _header(file, name, stream)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if stream.tell() + size != info.file_size:
            raise ModelFileError(f"{file}: {name} says {shape} {dtype}, which is not its size")
        if name == METADATA and (shape or dtype.kind != "U"):
            raise ModelFileError(f"{file}: metadata is {dtype} {shape}, not one string")
        if name != METADATA and dtype.kind != "f":
            raise ModelFileError(f"{file}: {name} is {dtype}, not floating point")
        data = stream.read(size)
    # frombuffer refuses zero bytes; the shape check that follows would have refused them too.
    if not data:
        raise ModelFileError(f"{file}: {name} is empty")
    return np.frombuffer(data, dtype).reshape(shape)


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _header(file: Path, name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(stream)
    except (ValueError, KeyError, TypeError, SyntaxError, TokenError, RecursionError) as error:
        raise ModelFileError(f"{file}: {name} is not a NumPy array ({error})") from error
    if (fortran and len(shape) > 1) or dtype.hasobject:
        raise ModelFileError(f"{file}: {name} is {dtype}, column-major or holds objects")
    if min(shape, default=0) < 0 or len(shape) > 4:
        raise ModelFileError(f"{file}: {name} has the impossible shape {shape}")
    return shape, dtype


def _largest_tensor() -> int:
    """Bytes of the largest tensor of any architecture, in float64."""
    return 8 * 256 * 3136  # fc1_W of the cnn; fc1_W of the mlp is 512 x 1568, the same


def _take(file: Path, arrays: dict[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    value = arrays.pop(name, None)
    if value is None:
        raise ModelFileError(f"{file}: no entry {name}")
    if value.shape != shape:
        raise ModelFileError(f"{file}: {name} has shape {value.shape}, not {shape}")
    with np.errstate(over="ignore"):
        value = value.astype(np.float32)
    if not np.isfinite(value).all():
        raise ModelFileError(f"{file}: {name} holds values that are not finite float32")
    return value
