"""Training in a GPU's memory: the digits lie there, and an epoch runs there from its pairs to its last step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist100 import _core
from mnist100._checks import Array
from mnist100.batch_norm import BatchNormReLU
from mnist100.data import PairSet, Splits
from mnist100.data.batches import shuffle_seed
from mnist100.device import DeviceArray, joined, layer_specs, split
from mnist100.models import Model
from mnist100.optim import Adam
from mnist100.training.inputs import TrainingInputs, augmentation
from mnist100.training.recipes import Recipe
from mnist100.training.schedule import schedule
from mnist100.training.statistics import STATISTICS_PAIRS, Pooled
from mnist100.training.tally import Tally

_AT_ONCE = 256  # rows whose statistics the engine takes at a time, as many as it evaluates

_PARAMETERS = (  # the arrays of the engine that have a part for each parameter, and their names in a checkpoint
    ("weights", "WEIGHTS"),
    ("adam_m", "ADAM_M"),
    ("adam_v", "ADAM_V"),
)


class DeviceInputs(TrainingInputs):
    """The pairs of a run, in the GPU's memory, with the engine that trains on them.

    Parameters
    ----------
    model
        Of two digits, its weights as they shall be at the start.
    splits, recipe, seed, repeats
        As for `TrainingInputs`.
    """

    def __init__(
        self, model: Model, splits: Splits, recipe: Recipe, seed: int, repeats: int
    ) -> None:
        super().__init__(splits, recipe, seed, repeats)
        total = recipe.epochs * self.steps
        rate = schedule(recipe.schedule, recipe.final_div_factor)
        self.rates = [rate(step, total, recipe.learning_rate) for step in range(total)]
        self.count = len(self._fixed)
        norm = self.normalisation
        self.engine = _core.Engine(
            layer_specs(model.net.layers),
            self._training(recipe, seed, repeats),
            norm.mean,
            1 / norm.std,
        )
        self._sets = {
            name: self._put(pairs)
            for name, pairs in (("train", self._fixed), ("subset", self.subset), ("dev", self.dev))
            if pairs is not None
        }

    def accuracies(self, model: Model) -> tuple[float, float | None]:
        """Measure on a fixed subset of the training pairs, and on the dev pairs."""
        train = self.engine.count_correct(self._sets["subset"]) / len(self.subset)
        if self.dev is None:
            return train, None
        return train, self.engine.count_correct(self._sets["dev"]) / len(self.dev)

    @contextmanager
    def statistics(self, model: Model) -> Iterator[None]:
        """Let a model, and the engine, normalise by the statistics of plain training pairs for a while."""
        layers = [layer for layer in model.net.layers if isinstance(layer, BatchNormReLU)]
        if layers:
            for layer, pooled in zip(layers, self._pooled(layers), strict=True):
                layer.mean.value[...] = pooled.mean
                layer.var.value[...] = pooled.variance
            self.engine.write(_core.Values.EVALUATED, joined(model.tensors()))
        yield

    def _pooled(self, layers: list[BatchNormReLU]) -> list[Pooled]:
        pooled = [Pooled() for _ in layers]
        last = min(STATISTICS_PAIRS, len(self.subset))
        for first in range(0, last, _AT_ONCE):
            counts, values = self.engine.statistics(
                self._sets["subset"], first, min(_AT_ONCE, last - first)
            )
            found, start = np.array(values, np.float32), 0
            for layer, one, count in zip(layers, pooled, counts, strict=True):
                channels = len(layer.mean.value)
                mean, variance = found[start : start + 2 * channels].reshape(2, channels)
                one.add(mean, variance, count)
                start += 2 * channels
        return pooled

    def _put(self, pairs: PairSet) -> int:
        digits = pairs.digits
        number: int = self.engine.add_pairs(
            np.ascontiguousarray(digits.images), np.ascontiguousarray(digits.labels), pairs.pairs
        )
        return number

    def _training(self, recipe: Recipe, seed: int, repeats: int) -> Any:
        adam = Adam([])
        return _core.TrainingSpec(
            batch_size=recipe.batch_size,
            repeats=repeats,
            fresh_pairs=recipe.pairing == "fresh" and not isinstance(self._table, PairSet),
            pairing_seed=seed,
            shuffle_seed=shuffle_seed(seed),
            augmentation_seed=seed,
            beta1=adam.beta1,
            beta2=adam.beta2,
            eps=adam.eps,
            reg_lambda=recipe.reg_lambda,
            weight_decay=recipe.weight_decay,
            average_decay=recipe.ema_decay,
            clip=recipe.clip,
            rates=self.rates,
            precision=recipe.precision,
            **augmentation(recipe, 0),
        )


class DeviceTrainer:
    """Takes the steps of a run by the engine of its inputs."""

    def __init__(self, model: Model, recipe: Recipe, inputs: DeviceInputs) -> None:
        self._model = model
        self._recipe = recipe
        self._inputs = inputs
        self._engine = inputs.engine
        self._averages = recipe.ema_decay > 0
        values = joined(model.tensors())
        self._engine.write(_core.Values.WEIGHTS, values)
        self._engine.write(_core.Values.AVERAGE, values)

    def train_epoch(self, tally: Tally) -> None:
        """Take all steps that are left of the epoch that `tally` is of."""
        steps, recipe = self._inputs.steps, self._recipe
        loss_sum = self._engine.train_epoch(
            tally.epoch,
            tally.step,
            (tally.epoch - 1) * steps,
            tally.loss_sum,
            bool(augmentation(recipe, tally.epoch)),
        )
        rate = self._inputs.rates[tally.epoch * steps - 1]
        tally.add_rest(loss_sum, steps, self._inputs.count, rate)

    @contextmanager
    def weights(self) -> Iterator[None]:
        """Give the model, and the engine's evaluations, the averaged weights if the recipe averages them."""
        self._engine.begin_evaluation()
        self._put(self._engine.read(_core.Values.EVALUATED))
        yield

    def arrays(self) -> dict[str, DeviceArray]:
        """Return the parameters and buffers of training themselves, by name, in the GPU's memory."""
        return {
            one.name: DeviceArray(handle).reshape(*one.value.shape)
            for one, handle in zip(
                self._model.tensors(), self._engine.arrays(_core.Values.WEIGHTS), strict=True
            )
        }

    def tensors(self) -> dict[str, Array]:
        """Return copies of all that steps change."""
        found: dict[str, Array] = {}
        parameters = self._model.parameters()
        tensors = self._model.tensors()
        for name, values in _PARAMETERS:
            parts = split(self._engine.read(getattr(_core.Values, values)), tensors)
            found |= {
                f"{name}.{one.name}": part for one, part in zip(parameters, parts, strict=False)
            }
            if name == "weights":
                buffers = parts[len(parameters) :]
                names = [one.name for one in self._model.net.buffers]
                found |= {f"buffers.{one}": part for one, part in zip(names, buffers, strict=True)}
        if self._averages:
            parts = split(self._engine.read(_core.Values.AVERAGE), tensors)
            found |= {f"average.{one.name}": part for one, part in zip(tensors, parts, strict=True)}
        return found

    def restore(self, tensors: dict[str, Array], steps: int) -> None:
        """Copy the tensors to the GPU."""
        parameters = [one.name for one in self._model.parameters()]
        buffers = [one.name for one in self._model.net.buffers]
        every = [one.name for one in self._model.tensors()]
        kinds = {
            "WEIGHTS": [f"weights.{one}" for one in parameters]
            + [f"buffers.{one}" for one in buffers],
            "ADAM_M": [f"adam_m.{one}" for one in parameters],
            "ADAM_V": [f"adam_v.{one}" for one in parameters],
        }
        if self._averages:
            kinds["AVERAGE"] = [f"average.{one}" for one in every]
        for values, names in kinds.items():
            flat = np.concatenate([tensors[name].reshape(-1) for name in names])
            self._engine.write(getattr(_core.Values, values), flat)

    def _put(self, values: npt.NDArray[np.float32]) -> None:
        tensors = self._model.tensors()
        for tensor, part in zip(tensors, split(values, tensors), strict=True):
            tensor.value[...] = part
