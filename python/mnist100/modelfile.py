"""Model files: plain arrays in an .npz, named as the NumPy script this project grew from named them.

``conv1_W (16,1,3,3)``, ``conv1_b (16,1)``, …, ``mean (1568,1)``, ``std (1568,1)`` and one JSON string,
``metadata``. A batch normalisation has ``bn1_gamma``, ``bn1_beta``, ``bn1_mean`` and ``bn1_var`` (c, 1), the
last two its running statistics. Biases and statistics are columns in the file. A file without ``metadata`` is that script's
own, and is used as it used it: std at least 1e-8, no clip. PyTorch's ``.pt`` is read by `mnist100.export`.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._checks import SMALLEST_STD, Array
from .files import atomic_writer
from .npz import NpzError, read_npz, write_npz
from .parameters import Buffer

if TYPE_CHECKING:
    from .models import Model

MODEL_NAME = "model.npz"
TORCH_MODEL_NAME = "model.pt"
METADATA = "metadata"
MAX_METADATA = 1 << 20  # bytes; far more than any run writes
MAX_ENTRIES = 128  # 5 for each of 16 convolutions with normalisation, and a few
MAX_CHANNELS = (
    256  # of a convolution: four times the widest there is, and no more memory than a file's own
)
MAX_STAGE_DEPTH = 4
MAX_STAGES = 4  # a pool each: 28 pixels halve no further
MAX_TEST_SHIFTS = 4  # (2*4 + 1)^2 = 81 views; MNIST leaves a margin of four pixels around a digit
PIXELS = 28 * 56
ORIGIN_STD_FLOOR = 1e-8


class ModelFileError(ValueError):
    """A file that is not a model this package can read."""


def save_model(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path` atomically.

    Raises ValueError if the model has no normalisation and OSError if the disk is full.
    """
    if model.normalisation is None:
        raise ValueError("model.normalisation: got None, wants that of the training set")
    norm = model.normalisation
    facts = {
        **model.metadata,
        "architecture": model.architecture,
        "clip": norm.clip,
        "test_shifts": model.test_shifts,
    }
    # First, so that no damage which loses the last entries can pass for a file that never had it.
    arrays = {METADATA: np.array(json.dumps(facts))}
    arrays |= {p.name: column(p.value) for p in model.tensors()}
    arrays["mean"] = norm.mean.reshape(PIXELS, 1)
    arrays["std"] = norm.std.reshape(PIXELS, 1)
    with atomic_writer(path) as file:
        write_npz(file, arrays)


def load_model(path: str | os.PathLike[str]) -> Model:
    """The model in a file, ``.npz`` or ``.pt``, or the best one of a run folder.

    Raises FileNotFoundError, ModelFileError naming the file and what is wrong with it, or RuntimeError
    for a ``.pt`` without PyTorch.
    """
    file = model_path(path)
    if file.suffix == ".pt":
        from .export import read_torch  # deferred: only these files need PyTorch

        arrays, facts = read_torch(file)
    else:
        arrays, facts = _read(file)
        if "tally" in facts:  # last.npz
            raise ModelFileError(
                f"{file}: is where a run goes on, not a model; give the run's folder, or its {MODEL_NAME}"
            )
    return assemble(str(file), arrays, facts)


def assemble(source: str, arrays: dict[str, Array], facts: dict[str, Any]) -> Model:
    """The model of these arrays, named and shaped as in a file, and facts, the metadata.

    Raises ModelFileError naming the source and what is wrong with it.
    """
    from .data import Normalisation  # deferred: data is not needed to import mnist100

    weights = dict(arrays)
    statistics: dict[str, Array] = {n: weights.pop(n) for n in ("mean", "std") if n in arrays}
    model = with_weights(source, weights, facts.get("architecture", "cnn"))
    mean = _take(source, statistics, "mean", (PIXELS, 1))
    std = _take(source, statistics, "std", (PIXELS, 1))
    clip = 0.0
    if facts:
        clip = _clip(source, facts)
    else:
        std = np.maximum(std, ORIGIN_STD_FLOOR)
    if not std.min() >= SMALLEST_STD:
        raise ModelFileError(f"{source}: std has a value below {SMALLEST_STD:g}")
    model.normalisation = Normalisation(mean.reshape(28, 56), std.reshape(28, 56), clip)
    model.test_shifts = _test_shifts(source, facts)
    model.metadata = facts
    return model


def with_weights(source: str, arrays: dict[str, Array], architecture: object) -> Model:
    """A model with these weights, all of them and no others, and no normalisation.

    Raises ModelFileError naming the source and what is wrong with it.
    """
    from .models import ARCHITECTURES  # deferred: no cycle, and a fast import

    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelFileError(f"{source}: architecture {architecture!r} is not one of {known}")
    arrays = dict(arrays)
    model = ARCHITECTURES[architecture](**_options(source, arrays, architecture))
    for tensor in model.tensors():
        value = _take(source, arrays, tensor.name, column(tensor.value).shape)
        if isinstance(tensor, Buffer) and value.min() < tensor.least:
            raise ModelFileError(f"{source}: {tensor.name} has a value below {tensor.least:g}")
        tensor.value[...] = value.reshape(tensor.value.shape)
    if arrays:
        raise ModelFileError(f"{source}: unknown entries {sorted(arrays)}")
    return model


def _options(source: str, arrays: dict[str, Array], architecture: str) -> dict[str, Any]:
    """What makes a siamese network as its arrays: the output channels of each stage's convolutions."""
    if architecture != "siamese":
        return {}
    stages: dict[int, dict[int, int]] = {}
    for name, weight in arrays.items():
        found = re.fullmatch("conv([1-9])_([1-9])_W", name)
        if found and weight.ndim == 4:
            stages.setdefault(int(found[1]), {})[int(found[2])] = len(weight)
    # A gap in the numbers is found when every tensor of the network is asked for.
    channels = [[stage[place] for place in sorted(stage)] for _, stage in sorted(stages.items())]
    widest = max((width for stage in channels for width in stage), default=0)
    if widest > MAX_CHANNELS:
        raise ModelFileError(f"{source}: {widest} channels, at most {MAX_CHANNELS} allowed")
    if len(channels) > MAX_STAGES:
        raise ModelFileError(f"{source}: {len(channels)} stages, at most {MAX_STAGES} allowed")
    return {"channels": channels} if channels else {}


def _clip(source: str, facts: dict[str, Any]) -> float:
    clip = facts.get("clip")
    if isinstance(clip, bool) or not isinstance(clip, int | float) or not 0 <= clip <= 1e6:
        raise ModelFileError(f"{source}: metadata: clip is {clip!r}, not a number from 0 to 1e6")
    return float(clip)


def _test_shifts(source: str, facts: dict[str, Any]) -> int:
    shifts = facts.get("test_shifts", 0)
    if type(shifts) is not int or not 0 <= shifts <= MAX_TEST_SHIFTS:
        wants = f"a whole number from 0 to {MAX_TEST_SHIFTS}"
        raise ModelFileError(f"{source}: metadata: test_shifts is {shifts!r}, not {wants}")
    return shifts


def model_path(path: str | os.PathLike[str]) -> Path:
    """The model file of a run folder, or the file itself. Raises FileNotFoundError."""
    found = Path(path)
    if found.is_dir():
        names = (MODEL_NAME, TORCH_MODEL_NAME)
        found = next((found / name for name in names if (found / name).is_file()), found)
        if found.is_dir():
            raise FileNotFoundError(
                f"{path}: no {MODEL_NAME} here and no {TORCH_MODEL_NAME}; is this the folder of a run?"
            )
    if not found.is_file():
        raise FileNotFoundError(f"{path}: no such run folder or model file")
    return found


def column(value: Array) -> Array:
    """An array as files hold it: a vector as a column."""
    return value.reshape(-1, 1) if value.ndim == 1 else value


def _read(file: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Every entry of the archive and the metadata, apart."""
    try:
        arrays = read_npz(file, _fault, most_entries=MAX_ENTRIES)
    except NpzError as error:
        raise ModelFileError(str(error)) from error
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


def _fault(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str | None:
    """What is wrong with an entry, judged by its header."""
    if name == METADATA and (shape or dtype.kind != "U"):
        return f"is {dtype} {shape}, not one string"
    if name != METADATA and dtype.kind != "f":
        return f"is {dtype}, not floating point"
    limit = MAX_METADATA if name == METADATA else _largest_tensor()
    size = math.prod(shape) * dtype.itemsize
    return f"has {size} bytes, at most {limit} allowed" if size > limit else None


def _largest_tensor() -> int:
    """Bytes of the largest tensor of any architecture, in float64."""
    return 8 * 256 * 3136  # fc1_W of the cnn; fc1_W of the mlp is 512 x 1568, the same


def _take(source: str, arrays: dict[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    value = arrays.pop(name, None)
    if value is None:
        raise ModelFileError(f"{source}: no entry {name}")
    if value.shape != shape:
        raise ModelFileError(f"{source}: {name} has shape {value.shape}, not {shape}")
    with np.errstate(over="ignore"):
        value = value.astype(np.float32)
    if not np.isfinite(value).all():
        raise ModelFileError(f"{source}: {name} holds values that are not finite float32")
    return value
