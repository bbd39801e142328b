"""Models to PyTorch and back, bit for bit, and to ONNX.

Nothing here imports PyTorch or ONNX until it is used. A ``.pt`` file holds plain tensors and plain values and
loads with ``torch.load(path, weights_only=True)``: ``state_dict`` (``conv1.weight``, ``conv1.bias``, …),
``mean`` and ``std`` (1568, 1), and ``config``, what ``metadata`` is in an ``.npz``.
"""

from __future__ import annotations

import importlib
import io
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._checks import Array
from .files import atomic_writer
from .modelfile import ModelFileError, assemble, with_weights

if TYPE_CHECKING:
    from onnx import ModelProto

    from .models import Model
    from .reference.torch_cnn import Network

MAX_FILE = 64 << 20  # bytes; twenty times what any architecture needs
MAX_FACTS = 100  # in any mapping of a config

# What PyTorch calls the tensors of a layer, and we; layers named bn are batch normalisations.
_WEIGHT_KINDS = {"weight": "W", "bias": "b"}
_NORM_KINDS = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}
_TORCH_KINDS = {
    ours: name for names in (_WEIGHT_KINDS, _NORM_KINDS) for name, ours in names.items()
}


def to_torch(model: Model) -> Network:
    """The network as a ``torch.nn.Module`` in evaluation mode, with copies of the weights.

    It takes what `model` takes, standardised float32 (n, 1, 28, 56), and gives the same logits. It
    carries the normalisation as ``mean``, ``std`` (1568, 1; None if the model has none) and
    ``config["clip"]``.

    Raises RuntimeError if PyTorch is not installed.
    """
    network: Network = torch_module("torch_cnn").Network.of(model)
    return network.eval()


def from_torch(source: Any) -> Model:
    """The model of a module, a ``state_dict`` or the contents of a ``.pt`` file, with copies of the weights.

    Parameters
    ----------
    source : what `to_torch` returned, any module or mapping whose names and shapes are those of
        ``to_torch(models.cnn()).state_dict()``, or a mapping with ``state_dict``, ``mean``, ``std`` and
        ``config``. The last and the first bring their normalisation; a bare ``state_dict`` has none.

    Raises ModelFileError, a ValueError, that says what does not fit, or RuntimeError if PyTorch is not
    installed.
    """
    arrays, config = torch_module("torch_cnn").arrays_of("source", source)
    facts = _facts("source", config)
    if "mean" in arrays or "std" in arrays:
        return assemble("source", arrays, facts)
    model = with_weights("source", arrays, facts.get("architecture", "cnn"))
    model.metadata = facts
    return model


def save_torch(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `model` to a ``.pt`` file atomically.

    Raises ValueError if the model has no normalisation, OSError if the disk is full and RuntimeError if
    PyTorch is not installed.
    """
    if model.normalisation is None:
        raise ValueError("model.normalisation: got None, wants that of the training set")
    reference = torch_module("torch_cnn")
    with atomic_writer(path) as file:
        reference.save(model, file)


def to_onnx(model: Model) -> ModelProto:
    """The model as an ONNX graph: ``images``, uint8 (n, 28, 56), to ``labels`` (n,) and ``probabilities`` (n, 100).

    It does all that `Model.predict_proba` does, `Model.test_shifts` and standardisation included, and differs by
    rounding alone. What `Model.metadata` says is in its property ``metadata``, as JSON.

    Raises ValueError if the model has no normalisation, TypeError if it has a layer of another package, and
    RuntimeError if ``onnx`` is not installed.
    """
    if model.normalisation is None:
        raise ValueError("model.normalisation: got None, wants that of the training set")
    try:
        from .onnx_graph import to_graph
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise RuntimeError('ONNX is not installed; run pip install "mnist100[onnx]"') from error
    return to_graph(model)


def save_onnx(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `to_onnx` of a model to a file atomically. Raises what that does, and OSError if the disk is full."""
    data = to_onnx(model).SerializeToString()
    with atomic_writer(path) as file:
        file.write(data)


def read_torch(file: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a ``.pt`` file, named as in an ``.npz``, and its ``config``.

    Raises ModelFileError naming the file and what is wrong with it, OSError if it cannot be read, and
    RuntimeError if PyTorch is not installed.
    """
    reference = torch_module("torch_cnn")
    if file.stat().st_size > MAX_FILE:
        raise ModelFileError(f"{file}: has more than {MAX_FILE} bytes, which no model has")
    data = file.read_bytes()
    arrays: dict[str, Array]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(info.file_size for info in archive.infolist())
            if size > MAX_FILE:
                raise ModelFileError(f"{file}: unpacks to {size} bytes, at most {MAX_FILE} allowed")
            broken = archive.testzip()  # PyTorch itself does not look at the checksums
            if broken is not None:
                raise ModelFileError(f"{file}: {broken} is damaged, its checksum is wrong")
        arrays, config = reference.arrays_of(str(file), reference.load(data))
        return arrays, _facts(str(file), config)
    except ModelFileError:
        raise
    except (
        Exception
    ) as error:  # what PyTorch raises for bytes that are not its own is not documented
        # Its own text advises to load without weights_only, which would run what the file says.
        raise ModelFileError(
            f"{file}: not a readable .pt file of plain tensors ({type(error).__name__})"
        ) from error


def _facts(source: str, config: object) -> dict[str, Any]:
    """A config as metadata: plain values only."""
    facts = _plain(source, config, 3)
    if not isinstance(facts, dict):
        raise ModelFileError(f"{source}: config is {type(config).__name__}, not a mapping")
    return facts


def _plain(source: str, value: object, depth: int) -> Any:
    """A copy of plain values in mappings at most `depth` deep: one in the other could grow without end."""
    if value is None or isinstance(value, str | int | float):
        return value
    if depth and isinstance(value, dict) and len(value) <= MAX_FACTS:
        return {str(key): _plain(source, one, depth - 1) for key, one in value.items()}
    raise ModelFileError(f"{source}: config holds {type(value).__name__}, which is no plain value")


def torch_name(name: str) -> str:
    """PyTorch's name of a tensor: conv1_W -> conv1.weight, bn1_gamma -> bn1.weight, bn1_mean -> bn1.running_mean."""
    layer, kind = name.rsplit("_", 1)
    return f"{layer}.{_TORCH_KINDS[kind]}"


def our_name(name: str) -> str:
    """Our name of a tensor, the inverse of `torch_name`; what has none stays as it is."""
    layer, _, kind = name.rpartition(".")
    ours = _NORM_KINDS if layer.startswith("bn") else _WEIGHT_KINDS
    return f"{layer}_{ours[kind]}" if layer and kind in ours else name


def torch_module(name: str) -> Any:
    """A module of `mnist100.reference` that needs PyTorch; RuntimeError if that is not installed."""
    try:
        return importlib.import_module(f"mnist100.reference.{name}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise RuntimeError('PyTorch is not installed; run pip install "mnist100[torch]"') from error
