"""Training with PyTorch where the digits lie on the GPU, in each of the modes that may be its fastest.

The same as `mnist100 train` there: fresh pairs and a new order every epoch, each digit under its own random affine map,
the reference network, L2, fused Adam, the one-cycle rate, averaged weights. Draws are PyTorch's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as tf

import inputs
from mnist100 import export
from mnist100.training.inputs import TrainingInputs
from mnist100.training.recipes import Recipe
from mnist100.training.schedule import one_cycle

WARM_UP_STEPS = 3  # before a capture, so that PyTorch has chosen its kernels


@dataclass(frozen=True)
class Mode:
    """How PyTorch runs a step, and its precision.

    ``"eager"``; ``"graph"``, all of it in one CUDA graph; or ``"max-autotune"``, that graph of a network that
    `torch.compile` has tuned. (The mode of that name makes graphs of its own, but of the network alone, and
    falls back where a step changes its inputs, as an optimiser does.)
    """

    kind: str
    precision: str

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.kind} {self.precision}"


class TorchRun:
    """A run of `mnist100 train` by PyTorch.

    Parameters
    ----------
    device
        ``"cuda"``, or ``"cpu"`` to see whether it works.
    data
        The pairs and the normalisation.
    recipe
        What `data` are made by.
    """

    def __init__(self, mode: Mode, device: str, data: TrainingInputs, recipe: Recipe) -> None:
        self._mode = mode
        self._device = device
        self._recipe = recipe
        table = data.subset.digits
        self._digits = torch.from_numpy(table.images).to(device)
        self._labels = torch.from_numpy(table.labels).to(device).long()
        norm = data.normalisation
        self._mean = torch.from_numpy(norm.mean).to(device)
        self._inv_std = 1 / torch.from_numpy(norm.std).to(device)
        network: Any = export.to_torch(inputs.network(dropout=recipe.dropout)).train()
        network = network.to(device).to(memory_format=torch.channels_last)
        parameters = list(network.parameters())
        tuned = mode.kind == "max-autotune"
        self._network = (
            torch.compile(network, mode="max-autotune-no-cudagraphs") if tuned else network
        )
        self._averages = [p.detach().clone() for p in parameters]
        weights = [p for p in parameters if p.ndim > 1]
        biases = [p for p in parameters if p.ndim == 1]
        on_gpu = device == "cuda"
        self._rate = torch.zeros((), device=device)
        groups: list[dict[str, Any]] = [
            {"params": weights, "weight_decay": recipe.reg_lambda / recipe.batch_size},
            {"params": biases},
        ]
        self._optimizer = torch.optim.Adam(
            groups,
            lr=self._rate,
            fused=True,
            capturable=on_gpu,
        )
        self._parameters = parameters
        count = len(self._digits)
        self._count = (
            count - count % recipe.batch_size
        )  # PyTorch's graphs are of one size: no last batch
        self._total = recipe.epochs * self._count // recipe.batch_size
        self._steps = 0
        self._rows = torch.zeros(recipe.batch_size, 2, dtype=torch.long, device=device)
        self.loss = torch.zeros((), device=device)
        self._take = self._prepared()

    def epoch(self) -> None:
        """Train for an epoch, and wait for it."""
        size = self._recipe.batch_size
        count = len(self._digits)
        pairs = torch.stack(
            [
                torch.arange(count, device=self._device),
                torch.randperm(count, device=self._device),
            ],
            dim=1,
        )[torch.randperm(count, device=self._device)]
        for first in range(0, self._count, size):
            self._rate.fill_(
                one_cycle(self._steps % self._total, self._total, self._recipe.learning_rate)
            )
            self._rows.copy_(pairs[first : first + size])
            self._take()
            self._steps += 1
        self.wait()

    def wait(self) -> None:
        """Wait for the GPU."""
        if self._device == "cuda":
            torch.cuda.synchronize()

    def _prepared(self) -> Callable[[], None]:
        if self._mode.kind == "eager":
            return self._step
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay

    def _step(self) -> None:
        labels = 10 * self._labels[self._rows[:, 0]] + self._labels[self._rows[:, 1]]
        x = self._images()
        lower = self._mode.precision == "bf16"
        with torch.autocast(self._device, torch.bfloat16, enabled=lower):
            logits = self._network(x)
        loss = tf.cross_entropy(logits.float(), labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        torch._foreach_lerp_(self._averages, self._parameters, 1 - self._recipe.ema_decay)
        self.loss.copy_(loss.detach())

    def _images(self) -> torch.Tensor:
        """Augmented, standardised pairs (B, 1, 28, 56)."""
        recipe, size = self._recipe, len(self._rows)
        digits = self._digits[self._rows.reshape(-1)].float().unsqueeze(1) / 255

        def uniform(width: float) -> torch.Tensor:
            return (2 * torch.rand(2 * size, device=self._device) - 1) * width

        angle, shear = uniform(math.radians(recipe.rotate_degrees)), uniform(recipe.shear)
        scale_y, scale_x = 1 + uniform(recipe.scale), 1 + uniform(recipe.scale)
        cosine, sine = angle.cos(), angle.sin()
        half = digits.shape[-1] / 2  # affine_grid counts from -1 to 1
        rows = [
            torch.stack(
                [
                    (cosine + shear * sine) / scale_x,
                    (sine - shear * cosine) / scale_x,
                    uniform(recipe.translate) / half,
                ],
                1,
            ),
            torch.stack([-sine / scale_y, cosine / scale_y, uniform(recipe.translate) / half], 1),
        ]
        grid = tf.affine_grid(torch.stack(rows, 1), list(digits.shape), align_corners=False)
        moved = tf.grid_sample(digits, grid, align_corners=False)
        pairs = moved.reshape(size, 2, 28, 28).transpose(1, 2).reshape(size, 28, 56)
        standardised = ((pairs - self._mean) * self._inv_std).clamp(-recipe.clip, recipe.clip)
        return standardised.unsqueeze(1).contiguous(memory_format=torch.channels_last)


def set_precision(precision: str) -> None:
    """Let float32 products be made in TF32, or not, from now on."""
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.benchmark = True
