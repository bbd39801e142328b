"""The training loop: epochs of steps, and evaluation on dev."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnist100.data import Splits
from mnist100.models import Model
from mnist100.training.backends import Native
from mnist100.training.checkpoint import Checkpoint, identity
from mnist100.training.history import EpochRecord
from mnist100.training.inputs import Inputs
from mnist100.training.interrupt import HeldSignals, hold_signals
from mnist100.training.keeper import Keeper
from mnist100.training.recipes import Recipe
from mnist100.training.reports import EpochReport, FitResult, StepReport, TrainingError
from mnist100.training.schedule import schedule
from mnist100.training.tally import Tally
from mnist100.training.trainers import EpochTrainer, StepTrainer

OnStep = Callable[[StepReport], None]
OnEpoch = Callable[[EpochReport], None]


def fit(
    model: Model,
    splits: Splits,
    recipe: Recipe,
    *,
    seed: int,
    repeats: int = 1,
    backend: Native | None = None,
    out: Path | None = None,
    resume: Checkpoint | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> FitResult:
    """Train a model in place; it ends with its best weights. The test set is not looked at.

    Parameters
    ----------
    model
        Made with the recipe's dropout. Its normalisation is fitted here, its ``test_shifts`` are the
        recipe's, and the facts of the run are added to its metadata.
    splits
        The digits to train on, and to choose on; with no dev digits there is no early stopping and
        the last weights are the best.
    recipe
        Every training choice.
    seed
        Of fresh pairings, of the order of the pairs and of the augmentation.
    repeats
        How many permutations the digits of each split are paired in.
    backend
        What to compute with; None is our kernels. The model keeps it.
    out
        An existing folder for the model's file, written whenever an epoch is the best so far;
        ``history.csv`` and ``history.jsonl``, written after every epoch, but at most once a second and
        after the last; and ``last.npz``, written with them, before the first step and when a signal
        or an exception of `on_epoch` ends the run. None writes nothing.
    resume
        What `out` holds in ``last.npz``: go on from there. Everything else has to be as it was; the
        outcome then is, bit for bit, that of a run that was never interrupted.
    on_step, on_epoch
        Called after every step and every epoch. An exception that they raise ends the run.

    Raises
    ------
    TrainingError
        If the loss or a weight is no longer finite. The best model so far stays in `out`.
    CheckpointError
        If `resume` is not of this run, or the best model in `out` is not.
    OSError
        If a file cannot be written.
    Interruption
        On Ctrl-C (of which it is a kind) or SIGTERM, once the step in progress is done and ``last.npz``
        is written. A second signal does not wait, but never leaves half a file either.
    """
    backend = Native() if backend is None else backend
    backend.place(model)
    inputs = backend.inputs(model, splits, recipe, seed, repeats)
    model.normalisation = inputs.normalisation
    model.test_shifts = recipe.test_shifts
    model.metadata.update(recipe=recipe.as_dict(), seed=seed)
    trainer = backend.trainer(model, recipe, seed, inputs)
    facts = identity(recipe.as_dict(), seed, repeats, backend.name, splits)
    keeper = Keeper(model, backend, recipe, out)
    tally = Tally(1)
    if resume is not None:
        tally = keeper.go_on(resume, facts, trainer, inputs.steps)
    run_epochs(
        model, recipe, inputs, trainer, keeper, tally, facts, on_step=on_step, on_epoch=on_epoch
    )
    return keeper.result()


def run_epochs(
    model: Model,
    recipe: Recipe,
    inputs: Inputs,
    trainer: StepTrainer | EpochTrainer,
    keeper: Keeper,
    tally: Tally,
    facts: Mapping[str, Any],
    *,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Train until `keeper` has all epochs, whatever the inputs are; arguments and errors as in `fit`.

    Parameters
    ----------
    model, recipe, inputs, trainer
        What is trained, how, on what, and what takes the steps.
    keeper, tally
        The epochs so far, and the steps of the next one.
    facts
        What the run is, for ``last.npz``.
    """
    run = _Run(trainer, recipe, inputs, on_step)
    with hold_signals() as signals, keeper.history_at_the_end():
        if not keeper.is_complete:
            keeper.save_state(facts, trainer, tally)
        while not keeper.is_complete:
            run.train(tally, signals)
            report = None
            with trainer.weights():
                if not all(np.isfinite(parameter.value).all() for parameter in model.parameters()):
                    raise run.failure(tally, "a weight is not finite any more")
                if signals.received is None:
                    with inputs.statistics(model):
                        record = _evaluate(model, inputs, tally)
                        report = EpochReport(record, recipe.epochs, keeper.take(record))
                    tally = Tally(tally.epoch + 1)
            keeper.save_state(facts, trainer, tally, last=signals.received is not None)
            if report is not None and on_epoch is not None:
                try:
                    on_epoch(report)
                except BaseException:
                    keeper.save_state(facts, trainer, tally, last=True)
                    raise
            signals.raise_received()


def _evaluate(model: Model, inputs: Inputs, tally: Tally) -> EpochRecord:
    train_acc, dev_acc = inputs.accuracies(model)
    return EpochRecord(
        epoch=tally.epoch,
        loss=tally.loss_sum / tally.images,
        train_acc=train_acc,
        dev_acc=dev_acc,
        learning_rate=tally.learning_rate,
        seconds=tally.seconds,
        images_per_second=tally.images_per_second,
    )


class _Run:
    """Takes a trainer through epochs of steps, at the schedule's rates."""

    def __init__(
        self,
        trainer: StepTrainer | EpochTrainer,
        recipe: Recipe,
        inputs: Inputs,
        on_step: OnStep | None,
    ) -> None:
        self._trainer = trainer
        self._recipe = recipe
        self._inputs = inputs
        self._on_step = on_step
        self._schedule = schedule(recipe.schedule, recipe.final_div_factor)

    def train(self, tally: Tally, signals: HeldSignals) -> None:
        """Take the steps that an epoch has left, or until a signal comes."""
        tally.start_clock()
        if isinstance(self._trainer, EpochTrainer):
            self._train_at_once(self._trainer, tally)
        else:
            self._train_by_steps(self._trainer, tally, signals)

    def _train_at_once(self, trainer: EpochTrainer, tally: Tally) -> None:
        trainer.train_epoch(tally)
        loss = tally.loss_sum / tally.images
        self._check(tally, loss)
        if self._on_step is not None:
            self._on_step(self._report(tally, loss))

    def _train_by_steps(self, trainer: StepTrainer, tally: Tally, signals: HeldSignals) -> None:
        for x, labels in self._inputs.batches(tally.epoch, skip=tally.step):
            if signals.received is not None:
                return
            step = (tally.epoch - 1) * self._inputs.steps + tally.step
            rate = self._schedule(
                step, self._recipe.epochs * self._inputs.steps, self._recipe.learning_rate
            )
            loss = trainer.step(x, labels, rate)
            tally.add(loss, len(labels), rate)
            self._check(tally, loss)
            if self._on_step is not None:
                self._on_step(self._report(tally, loss))

    def _check(self, tally: Tally, loss: float) -> None:
        if not math.isfinite(loss):
            raise self.failure(tally, f"the loss became {loss}")

    def failure(self, tally: Tally, what: str) -> TrainingError:
        """Say what broke, where, and what to try."""
        return TrainingError(
            f"{what} in epoch {tally.epoch}, step {tally.step} of {self._inputs.steps}, at a "
            f"learning rate of {tally.learning_rate:.3g}; try a smaller learning rate or reg_lambda"
        )

    def _report(self, tally: Tally, loss: float) -> StepReport:
        return StepReport(
            epoch=tally.epoch,
            epochs=self._recipe.epochs,
            step=tally.step,
            steps=self._inputs.steps,
            loss=loss,
            learning_rate=tally.learning_rate,
            images_per_second=tally.images_per_second,
        )
