"""Training and evaluation by PyTorch: autograd, its Adam, its devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mnist100 import _core
from mnist100._checks import Array
from mnist100.export import torch_name
from mnist100.layers import Activation, Sequential, to_nchw
from mnist100.models import Model
from mnist100.optim import average_decay
from mnist100.reference.torch_cnn import Network, array_of


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
            ours.value[...] = array_of(value)
        yield

    def tensors(self) -> dict[str, Array]:
        """Return copies of weights, moments, buffers and averages, by name."""
        return {name: array_of(value).copy() for name, value in self._state()}

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


def usable_device(device: str) -> str:
    """`device` if PyTorch can use it; it then computes with as many threads as our kernels.

    Raises RuntimeError for "cuda" where PyTorch sees no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no CUDA device here; use --device cpu")
    torch.set_num_threads(_core.num_threads())
    return device
