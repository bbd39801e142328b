"""The network, its training step and its files in PyTorch: the only module that imports it."""

from __future__ import annotations

import io
import json
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import torch
from torch import nn

from mnist100 import _core
from mnist100._checks import Array
from mnist100.batch_norm import MOMENTUM, BatchNormReLU
from mnist100.export import our_name, torch_name
from mnist100.functional.normalisation import EPS
from mnist100.halves import Halves, PairLogits
from mnist100.layers import (
    Activation,
    Conv2d,
    ConvBlock,
    Dropout,
    Flatten,
    Layer,
    Linear,
    LinearBlock,
    MaxPool2d,
    ReLU,
    Sequential,
    to_nchw,
)
from mnist100.modelfile import ModelFileError, column
from mnist100.models import Model
from mnist100.optim import average_decay

MAX_ELEMENTS = 256 * 3136  # of the largest tensor of any architecture


class Network(nn.Sequential):
    """One of our networks as a module: standardised float32 (n, 1, 28, 56) to logits (n, 100).

    Attributes
    ----------
    mean, std : float32 (1568, 1), or None for a model without normalisation; not in the state_dict
    config : the model's metadata, with ``architecture`` and ``clip``
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


class TorchNet(Sequential):
    """The layers of a network, evaluated by PyTorch on a device with the weights they have then."""

    def __init__(self, net: Sequential, device: str) -> None:
        super().__init__(net.layers)
        self._device = device
        self._network = Network(net.layers).to(device).eval()

    def __call__(self, x: Activation) -> Array:
        """Evaluation mode."""
        weights = {
            torch_name(one.name): torch.from_numpy(one.value).to(self._device)
            for one in self.tensors()
        }
        with torch.inference_mode():
            batch = torch.from_numpy(to_nchw(x)).to(self._device)
            logits: Array = torch.func.functional_call(self._network, weights, batch).cpu().numpy()
        return logits


class TorchTrainer:
    """Takes the steps of a run with autograd, PyTorch's dropout and its fused Adam.

    The loss is that of `mnist100.training.train_step`: L2 is λ/(2·B)·ΣW² over the weights and no bias, so
    that Adam's decay is λ/B for the one and 0 for the other. Dropout draws from PyTorch's own
    generator, which every step seeds anew, so that a run can go on from any step.

    Parameters
    ----------
    model : gives the start values, and receives weights to evaluate and keep
    device : "cpu" or "cuda"
    reg_lambda, weight_decay, ema_decay : as in a recipe
    seed : of dropout
    """

    def __init__(
        self,
        model: Model,
        device: str,
        *,
        reg_lambda: float,
        weight_decay: float,
        ema_decay: float,
        seed: int,
    ) -> None:
        self._model = model
        self._device = device
        self._reg_lambda = reg_lambda
        self._weight_decay = weight_decay
        self._ema_decay = ema_decay
        self._seed = seed
        self._steps = 0
        self._network = Network(model.net.layers).to(device).train()
        # The layout that PyTorch's convolutions are fastest with.
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        by_name = dict(self._network.named_parameters())
        buffers = dict(self._network.named_buffers())
        self._parameters = [by_name[torch_name(p.name)] for p in model.parameters()]
        self._buffers = [buffers[torch_name(b.name)] for b in model.net.buffers]
        self._tensors = [*self._parameters, *self._buffers]
        self._averages = [t.detach().clone() for t in self._tensors] if ema_decay else []
        self._weights = [by_name[torch_name(p.name)] for p in model.parameters() if p.decay]
        biases = [by_name[torch_name(p.name)] for p in model.parameters() if not p.decay]
        # Every step sets lr and the weights' decay: the last batch may be smaller.
        self._optimizer = torch.optim.Adam(
            [{"params": self._weights}, {"params": biases}], lr=0.0, fused=True
        )
        # As the first step would make it; `tensors` may come before that.
        for p in self._parameters:
            self._optimizer.state[p] = {
                "step": torch.zeros((), device=device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }

    def step(self, x: Array, labels: Array, learning_rate: float) -> float:
        """Take one step; return its loss, the L2 term included, before the update."""
        self._steps += 1
        # The CPU's generator takes 32 bits of a seed; the odd factor keeps runs apart.
        torch.manual_seed((1_000_003 * self._seed + self._steps) % 2**63)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.param_groups[0]["weight_decay"] = self._reg_lambda / len(x)
        logits = self._network(torch.from_numpy(x).to(self._device))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels).to(self._device))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        total = loss.detach()
        if self._reg_lambda:
            squares = sum(w.detach().square().sum() for w in self._weights)
            total = total + self._reg_lambda / (2 * len(x)) * squares
        with torch.no_grad():  # Adam's own decay is that of reg_lambda
            for weight in self._weights:
                weight.mul_(1 - learning_rate * self._weight_decay)
        self._optimizer.step()
        self._average()
        return float(total)

    def _average(self) -> None:
        decay = average_decay(self._ema_decay, self._steps)
        with torch.no_grad():
            for average, value in zip(self._averages, self._tensors, strict=False):  # may be none
                average.lerp_(value, 1 - decay)

    @contextmanager
    def weights(self) -> Iterator[None]:
        """Copy weights and buffers into the model, averaged if the recipe averages them."""
        found = self._averages or self._tensors
        for ours, value in zip(self._model.tensors(), found, strict=True):
            ours.value[...] = _array(value)
        yield

    def tensors(self) -> dict[str, Array]:
        """Return copies of weights, moments, buffers and averages, by name."""
        return {name: _array(value).copy() for name, value in self._state()}

    def restore(self, tensors: dict[str, Array], steps: int) -> None:
        """Copy the tensors into place and set the counts."""
        with torch.no_grad():
            for name, value in self._state():
                value.copy_(torch.tensor(tensors[name]))
            for p in self._parameters:
                self._optimizer.state[p]["step"].fill_(steps)
        self._steps = steps

    def _state(self) -> Iterator[tuple[str, torch.Tensor]]:
        for p, ours in zip(self._parameters, self._model.parameters(), strict=True):
            yield f"weights.{ours.name}", p
            yield f"adam_m.{ours.name}", self._optimizer.state[p]["exp_avg"]
            yield f"adam_v.{ours.name}", self._optimizer.state[p]["exp_avg_sq"]
        for buffer, value in zip(self._model.net.buffers, self._buffers, strict=True):
            yield f"buffers.{buffer.name}", value
        for tensor, average in zip(self._model.tensors(), self._averages, strict=False):
            yield f"average.{tensor.name}", average


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


def usable_device(device: str) -> str:
    """`device` if PyTorch can use it; it then computes with as many threads as our kernels.

    Raises RuntimeError for "cuda" where PyTorch sees no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no CUDA device here; use --device cpu")
    torch.set_num_threads(_core.num_threads())
    return device


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
    return column(_array(value.to("cpu", torch.float32)).copy())
