"""What takes the steps of a run: a network with its optimiser and averaged weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable

from mnist100._checks import Array
from mnist100.models import Model
from mnist100.optim import Adam, ExponentialAverage
from mnist100.training.recipes import Recipe
from mnist100.training.step import train_step
from mnist100.training.tally import Tally


class Trainer(Protocol):
    """What the training loop asks of a backend."""

    def weights(self) -> AbstractContextManager[object]:
        """Give the model the weights to evaluate and keep, averaged if the recipe averages them."""

    def tensors(self) -> dict[str, Array]:
        """Return all that steps change, by name: floating point, or unsigned for bytes."""

    def restore(self, tensors: dict[str, Array], steps: int) -> None:
        """Go on as after `steps` steps that left `tensors`, which are of the right shapes."""


class StepTrainer(Trainer, Protocol):
    """A trainer that is given the batches of an epoch one by one."""

    def step(self, x: Array, labels: Array, learning_rate: float) -> float:
        """Take one step on a batch; return its loss, the L2 term included, before the update."""


@runtime_checkable
class EpochTrainer(Trainer, Protocol):
    """A trainer that has the data where it computes."""

    def train_epoch(self, tally: Tally) -> None:
        """Take all steps that are left of the epoch that `tally` is of."""


class KernelTrainer:
    """The trainer of every backend that is a set of functions (`mnist100.operations`)."""

    def __init__(self, model: Model, recipe: Recipe) -> None:
        self.model = model
        self.optimizer = Adam(
            model.parameters(),
            lr=recipe.learning_rate,
            reg_lambda=recipe.reg_lambda,
            weight_decay=recipe.weight_decay,
            ops=model.ops,
        )
        self.average = (
            ExponentialAverage(model.tensors(), recipe.ema_decay, model.ops)
            if recipe.ema_decay
            else None
        )

    def step(self, x: Array, labels: Array, learning_rate: float) -> float:
        """Take one step."""
        self.optimizer.lr = learning_rate
        loss = train_step(self.model, self.optimizer, x, labels)
        if self.average is not None:
            self.average.update()
        return loss

    def weights(self) -> AbstractContextManager[object]:
        """Give the model its averaged weights for a while, if the recipe averages them."""
        return nullcontext() if self.average is None else self.average.swap()

    def tensors(self) -> dict[str, Array]:
        """Return weights, moments, buffers and averages themselves, not copies."""
        found: dict[str, Array] = {}
        for i, parameter in enumerate(self.optimizer.parameters):
            found[f"weights.{parameter.name}"] = parameter.value
            found[f"adam_m.{parameter.name}"] = self.optimizer.m[i]
            found[f"adam_v.{parameter.name}"] = self.optimizer.v[i]
        for buffer in self.model.net.buffers:
            found[f"buffers.{buffer.name}"] = buffer.value
        if self.average is not None:
            for tensor, average in zip(self.average.tensors, self.average.averages, strict=True):
                found[f"average.{tensor.name}"] = average
        return found

    def restore(self, tensors: dict[str, Array], steps: int) -> None:
        """Copy the tensors into place and set the counts."""
        for name, value in self.tensors().items():
            value[...] = tensors[name]
        self.optimizer.steps = steps
        if self.average is not None:
            self.average.updates = steps
