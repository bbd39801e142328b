"""The network and its files in PyTorch."""

from __future__ import annotations

import io
import json
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import torch
from torch import nn

from mnist100._checks import Array
from mnist100.batch_norm import MOMENTUM, BatchNormReLU
from mnist100.export import our_name
from mnist100.functional.normalisation import EPS
from mnist100.halves import Halves, PairLogits
from mnist100.layers import (
    Conv2d,
    ConvBlock,
    Dropout,
    Flatten,
    Layer,
    Linear,
    LinearBlock,
    MaxPool2d,
    ReLU,
)
from mnist100.modelfile import ModelFileError, column
from mnist100.models import Model

MAX_ELEMENTS = 256 * 3136  # of the largest tensor of any architecture


class Network(nn.Sequential):
    """One of our networks as a module: standardised float32 (n, 1, 28, 56) to logits (n, 100).

    Attributes
    ----------
    mean, std : float32 (1568, 1), or None for a model without normalisation; not in the state_dict
    config : the model's metadata, with ``architecture``, ``clip`` and ``test_shifts``
    """

    mean: torch.Tensor | None
    std: torch.Tensor | None

    def __init__(self, layers: Sequence[Layer]) -> None:
        modules = (named for i, layer in enumerate(layers) for named in _modules(layer, i))
        super().__init__(OrderedDict(modules))
        self.config: dict[str, Any] = {}
        for name in ("mean", "std"):
            self.register_buffer(name, None, persistent=False)

    @classmethod
    def of(cls, model: Model) -> Network:
        """The module of a model, with its normalisation."""
        network = cls(model.net.layers)
        network.config = {**model.metadata, "architecture": model.architecture}
        if model.normalisation is not None:
            network.mean = torch.tensor(model.normalisation.mean).reshape(-1, 1)
            network.std = torch.tensor(model.normalisation.std).reshape(-1, 1)
            network.config["clip"] = model.normalisation.clip
            network.config["test_shifts"] = model.test_shifts
        return network


class SplitHalves(nn.Module):
    """(n, c, h, 2·w) -> (2·n, c, h, w), as `mnist100.functional.split_halves`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack(x.chunk(2, dim=3), dim=1).flatten(0, 1)


class SumPairs(nn.Module):
    """(2·n, k) -> (n, k·k), as `mnist100.functional.pair_logits`."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        return (scores[0::2, :, None] + scores[1::2, None, :]).flatten(1)


def _modules(layer: Layer, place: int) -> Iterator[tuple[str, nn.Module]]:
    """The modules that do what a layer does; those with weights are named as its parameters are."""
    if isinstance(layer, Conv2d):
        yield _conv(layer, layer.stride, layer.padding)
        if layer.relu:
            yield f"relu{place}", nn.ReLU()
    elif isinstance(layer, ConvBlock):
        yield _conv(layer, (1, 1), layer.border)
        yield f"relu{place}", nn.ReLU()
        yield f"pool{place}", nn.MaxPool2d(2)
    elif isinstance(layer, BatchNormReLU):
        yield _batch_norm(layer)
        yield f"relu{place}", nn.ReLU()
        if layer.pool:
            yield f"pool{place}", nn.MaxPool2d(2)
    elif isinstance(layer, Halves):
        yield f"halves{place}", SplitHalves()
    elif isinstance(layer, PairLogits):
        yield f"pairs{place}", SumPairs()
    elif isinstance(layer, Linear):
        yield _linear(layer)
    elif isinstance(layer, LinearBlock):
        yield _linear(layer)
        yield f"relu{place}", nn.ReLU()
        yield f"dropout{place}", nn.Dropout(layer.p)
    elif isinstance(layer, MaxPool2d):
        yield f"pool{place}", nn.MaxPool2d(*layer.window)
    elif isinstance(layer, ReLU):
        yield f"relu{place}", nn.ReLU()
    elif isinstance(layer, Flatten):
        yield f"flatten{place}", nn.Flatten()
    elif isinstance(layer, Dropout):
        yield f"dropout{place}", nn.Dropout(layer.p)
    else:
        raise TypeError(f"layer: got {type(layer).__name__}, wants one that PyTorch has too")


def _conv(
    layer: Conv2d | ConvBlock, stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[str, nn.Module]:
    oc, c, kh, kw = layer.weight.value.shape
    module = nn.Conv2d(c, oc, (kh, kw), stride, padding, bias=layer.bias is not None)
    return _named(module, layer)


def _linear(layer: Linear | LinearBlock) -> tuple[str, nn.Module]:
    outputs, inputs = layer.weight.value.shape
    return _named(nn.Linear(inputs, outputs), layer)


def _named(
    module: nn.Conv2d | nn.Linear, layer: Conv2d | ConvBlock | Linear | LinearBlock
) -> tuple[str, nn.Module]:
    """A module with a copy of a layer's weights, and its name."""
    module.weight = nn.Parameter(torch.tensor(layer.weight.value))
    if layer.bias is not None:
        module.bias = nn.Parameter(torch.tensor(layer.bias.value))
    return layer.weight.name.removesuffix("_W"), module


def _batch_norm(layer: BatchNormReLU) -> tuple[str, nn.Module]:
    module = nn.BatchNorm2d(layer.gamma.value.size, eps=EPS, momentum=MOMENTUM)
    module.weight = nn.Parameter(torch.tensor(layer.gamma.value))
    module.bias = nn.Parameter(torch.tensor(layer.beta.value))
    module.running_mean = torch.tensor(layer.mean.value)
    module.running_var = torch.tensor(layer.var.value)
    return layer.gamma.name.removesuffix("_gamma"), module


def array_of(tensor: torch.Tensor) -> Array:
    """The values of a tensor, which share its memory if it is on the CPU."""
    array: Array = tensor.detach().cpu().numpy()
    return array


def save(model: Model, file: BinaryIO) -> None:
    """Write a model with its normalisation as ``state_dict``, ``mean``, ``std`` and ``config``."""
    network = Network.of(model)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    config = json.loads(json.dumps(network.config))  # plain values, as weights_only wants them
    contents = {"state_dict": state, "mean": network.mean, "std": network.std, "config": config}
    torch.save(contents, file)


def load(data: bytes) -> Any:
    """What the bytes of a ``.pt`` file hold: plain tensors and values, no code.

    Raises whatever `torch.load` raises for bytes that are not its own.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what it only warns about is no file of ours either
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def arrays_of(source: str, contents: Any) -> tuple[dict[str, Array], Any]:
    """The arrays of a module, a state_dict or the contents of a file, named as ours, and the config.

    Raises ModelFileError naming the source and what does not fit.
    """
    facts: Any = {}
    statistics: dict[str, Any] = {}
    state = contents
    if isinstance(contents, nn.Module):
        state = contents.state_dict()
        if isinstance(contents, Network):
            facts, statistics = contents.config, {"mean": contents.mean, "std": contents.std}
    elif isinstance(contents, Mapping) and "state_dict" in contents:
        state, facts = contents["state_dict"], contents.get("config", {})
        statistics = {name: contents.get(name) for name in ("mean", "std")}
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise ModelFileError(f"{source}: no state_dict with names and tensors")
    found = {
        our_name(name): value
        for name, value in state.items()
        if not name.endswith(".num_batches_tracked")  # of no use with a fixed momentum
    }
    found.update((name, value) for name, value in statistics.items() if value is not None)
    arrays = {name: _checked_array(source, name, value) for name, value in found.items()}
    return arrays, facts


def _checked_array(source: str, name: str, value: Any) -> Array:
    """A tensor as a float32 column or more, once it is known to be of a size that a model has."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        raise ModelFileError(f"{source}: {name} is {type(value).__name__}, not a dense tensor")
    if not value.is_floating_point() or value.numel() > MAX_ELEMENTS:
        raise ModelFileError(
            f"{source}: {name} is {value.dtype} of shape {tuple(value.shape)}, which no model has"
        )
    return column(array_of(value.to("cpu", torch.float32)).copy())
