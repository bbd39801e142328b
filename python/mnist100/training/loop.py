"""The training loop: epochs of steps, evaluation on dev, and the files that keep the best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnist100.data import Splits
from mnist100.evaluation import accuracy
from mnist100.modelfile import save_model
from mnist100.models import Model
from mnist100.optim import Adam, ExponentialAverage
from mnist100.training import run_folder
from mnist100.training.early_stopping import EarlyStopping
from mnist100.training.history import EpochRecord, write_history
from mnist100.training.inputs import TrainingInputs
from mnist100.training.interrupt import deferred_interrupt
from mnist100.training.recipes import Recipe
from mnist100.training.reports import EpochReport, FitResult, StepReport, TrainingError
from mnist100.training.schedule import SCHEDULES
from mnist100.training.step import train_step

OnStep = Callable[[StepReport], None]
OnEpoch = Callable[[EpochReport], None]


def fit(
    model: Model,
    splits: Splits,
    recipe: Recipe,
    *,
    seed: int,
    repeats: int = 1,
    out: Path | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> FitResult:
    """Train a model in place; it ends with its best weights. The test set is not looked at.

    Parameters
    ----------
    model
        Made with the recipe's dropout. Its normalisation is fitted here, and the facts of the run
        are added to its metadata.
    splits
        The digits to train on, and to choose on; with no dev digits there is no early stopping and
        the last weights are the best.
    recipe
        Every training choice.
    seed
        Of fresh pairings, of the order of the pairs and of the augmentation.
    repeats
        How many permutations the digits of each split are paired in.
    out
        An existing folder for ``model.npz``, written whenever an epoch is the best so far, and
        ``history.csv``, written after every epoch; None writes nothing.
    on_step, on_epoch
        Called after every step and every epoch. An exception that they raise ends the run.

    Raises
    ------
    TrainingError
        If the loss or a weight is no longer finite. The best model so far stays in `out`.
    OSError
        If a file cannot be written.
    KeyboardInterrupt
        On Ctrl-C; the files in `out` are then those of the last finished epoch.
    """
    inputs = TrainingInputs(splits, recipe, seed, repeats)
    model.normalisation = inputs.normalisation
    model.metadata.update(recipe=recipe.as_dict(), seed=seed)
    trainer = _Trainer(model, recipe, inputs, on_step)
    stopping = EarlyStopping(recipe.patience, recipe.min_delta)
    history: list[EpochRecord] = []
    best_epoch = 0
    best_weights: list[npt.NDArray[np.float32]] = []
    for epoch in range(1, recipe.epochs + 1):
        tally = trainer.train(epoch)
        with trainer.averaged_weights():
            record = _evaluate(model, inputs, tally)
            history.append(record)
            best = record.dev_acc is None or stopping.update(record.dev_acc)
            if best:
                best_epoch = epoch
                best_weights = [parameter.value.copy() for parameter in model.parameters()]
                model.metadata.update(epoch=epoch, dev_accuracy=record.dev_acc)
            if out is not None:
                _write(out, model, history, best)
        if on_epoch is not None:
            on_epoch(EpochReport(record, recipe.epochs, best))
        if stopping.should_stop:
            break
    for parameter, value in zip(model.parameters(), best_weights, strict=True):
        parameter.value[...] = value
    return FitResult(
        history=tuple(history),
        best_epoch=best_epoch,
        dev_accuracy=history[best_epoch - 1].dev_acc,
        stopped_early=len(history) < recipe.epochs,
    )


def _evaluate(model: Model, inputs: TrainingInputs, tally: _Tally) -> EpochRecord:
    return EpochRecord(
        epoch=tally.epoch,
        loss=tally.loss_sum / tally.images,
        train_acc=accuracy(model, inputs.subset),
        dev_acc=None if inputs.dev is None else accuracy(model, inputs.dev),
        learning_rate=tally.learning_rate,
        seconds=tally.seconds,
        images_per_second=tally.images_per_second,
    )


def _write(out: Path, model: Model, history: list[EpochRecord], best: bool) -> None:
    with deferred_interrupt():
        if best:
            save_model(model, out / run_folder.MODEL)
        write_history(out / run_folder.HISTORY, history)


class _Tally:
    """Sums over the steps of one epoch so far."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.step = 0
        self.images = 0
        self.loss_sum = 0.0
        self.learning_rate = 0.0
        self.seconds = 0.0
        self._started = time.perf_counter()

    def add(self, loss: float, images: int, learning_rate: float) -> None:
        self.step += 1
        self.images += images
        self.loss_sum += loss * images
        self.learning_rate = learning_rate
        self.seconds = time.perf_counter() - self._started

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)  # a coarse clock may show no time at all


class _Trainer:
    """Takes the steps of a run: schedule, optimiser and averaged weights."""

    def __init__(
        self, model: Model, recipe: Recipe, inputs: TrainingInputs, on_step: OnStep | None
    ) -> None:
        self._model = model
        self._recipe = recipe
        self._inputs = inputs
        self._on_step = on_step
        self._schedule = SCHEDULES[recipe.schedule]
        self._optimizer = Adam(
            model.parameters(), lr=recipe.learning_rate, reg_lambda=recipe.reg_lambda
        )
        self._average = (
            ExponentialAverage(model.parameters(), recipe.ema_decay) if recipe.ema_decay else None
        )

    def averaged_weights(self) -> AbstractContextManager[object]:
        """Give the model its averaged weights for a while, if the recipe averages them."""
        return nullcontext() if self._average is None else self._average.swap()

    def train(self, epoch: int) -> _Tally:
        """Take the steps of one epoch (from 1)."""
        tally = _Tally(epoch)
        for x, labels in self._inputs.batches(epoch):
            step = (epoch - 1) * self._inputs.steps + tally.step
            rate = self._schedule(
                step, self._recipe.epochs * self._inputs.steps, self._recipe.learning_rate
            )
            self._optimizer.lr = rate
            loss = train_step(self._model, self._optimizer, x, labels)
            if self._average is not None:
                self._average.update()
            tally.add(loss, len(labels), rate)
            self._check(tally, loss)
            if self._on_step is not None:
                self._on_step(self._report(tally, loss))
        if not all(np.isfinite(parameter.value).all() for parameter in self._model.parameters()):
            raise self._failure(tally, "a weight is not finite any more")
        return tally

    def _check(self, tally: _Tally, loss: float) -> None:
        if not math.isfinite(loss):
            raise self._failure(tally, f"the loss became {loss}")

    def _failure(self, tally: _Tally, what: str) -> TrainingError:
        return TrainingError(
            f"{what} in epoch {tally.epoch}, step {tally.step} of {self._inputs.steps}, at a "
            f"learning rate of {tally.learning_rate:.3g}; try a smaller learning rate"
        )

    def _report(self, tally: _Tally, loss: float) -> StepReport:
        return StepReport(
            epoch=tally.epoch,
            epochs=self._recipe.epochs,
            step=tally.step,
            steps=self._inputs.steps,
            loss=loss,
            learning_rate=tally.learning_rate,
            images_per_second=tally.images_per_second,
        )
