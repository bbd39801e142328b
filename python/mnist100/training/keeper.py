"""What a run keeps: its history, its best weights and its state, in memory and in its folder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist100.modelfile import load_model
from mnist100.models import Model
from mnist100.training import run_folder
from mnist100.training.backends import Native
from mnist100.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    check_tensors,
    save_checkpoint,
)
from mnist100.training.early_stopping import EarlyStopping
from mnist100.training.history import EpochRecord, write_history, write_history_lines
from mnist100.training.recipes import Recipe
from mnist100.training.reports import FitResult
from mnist100.training.tally import Tally
from mnist100.training.trainers import Trainer

SECONDS_BETWEEN_STATES = 1.0  # to write one takes as long as an epoch on a GPU


def is_complete(history: Iterable[EpochRecord], recipe: Recipe) -> bool:
    """Return whether a run with this history has no epoch left to do."""
    stopping = EarlyStopping(recipe.patience, recipe.min_delta)
    epochs = 0
    for record in history:
        epochs += 1
        if record.dev_acc is not None:
            stopping.update(record.dev_acc)
    return epochs >= recipe.epochs or stopping.should_stop


class Keeper:
    """What a run has come to: its history, its best weights, and their files if there is a folder."""

    def __init__(self, model: Model, backend: Native, recipe: Recipe, out: Path | None) -> None:
        self._model = model
        self._backend = backend
        self._epochs = recipe.epochs
        self._out = out
        self._stopping = EarlyStopping(recipe.patience, recipe.min_delta)
        self._history: list[EpochRecord] = []
        self._best_epoch = 0
        self._best_weights: list[npt.NDArray[np.float32]] = []
        self._epochs_written = 0
        self._state_written = -math.inf

    @property
    def is_complete(self) -> bool:
        """Whether no epoch is left to do."""
        return len(self._history) >= self._epochs or self._stopping.should_stop

    def take(self, record: EpochRecord) -> bool:
        """Take in an epoch whose weights the model holds; return whether they are the best so far."""
        best = self._add(record)
        if best:
            self._best_weights = [one.value.copy() for one in self._model.tensors()]
            self._describe_best()
            if self._out is not None:
                self._backend.save(self._model, self._out / self._backend.model_file)
        return best

    def save_state(
        self, facts: Mapping[str, Any], trainer: Trainer, tally: Tally, *, last: bool = False
    ) -> None:
        """Write the history, then ``last.npz``, from which a run that is killed goes on.

        Of epochs that take less than a second, one a second, the last of the run, and `last`.
        """
        is_due = monotonic() - self._state_written >= SECONDS_BETWEEN_STATES
        if self._out is None or not (is_due or last or self.is_complete):
            return
        self._save_history()
        checkpoint = Checkpoint(facts, trainer.tensors(), tuple(self._history), tally)
        save_checkpoint(self._out / run_folder.LAST, checkpoint)
        self._state_written = monotonic()

    @contextmanager
    def history_at_the_end(self) -> Iterator[None]:
        """Write the epochs that are not in the files yet when the block ends, however it does."""
        try:
            yield
        finally:
            self._save_history()

    def _save_history(self) -> None:
        if self._out is None or len(self._history) == self._epochs_written:
            return
        write_history(self._out / run_folder.HISTORY, self._history)
        write_history_lines(self._out / run_folder.HISTORY_LINES, self._history)
        self._epochs_written = len(self._history)

    def go_on(
        self, checkpoint: Checkpoint, facts: Mapping[str, Any], trainer: Trainer, steps: int
    ) -> Tally:
        """Put the run where `checkpoint` left it; return the sums of the epoch that it was in."""
        if self._out is None:
            raise ValueError("out: got None, wants the folder that resume is from")
        last = self._out / run_folder.LAST
        tally = checkpoint.tally
        if checkpoint.run != facts:
            odd = [key for key in facts if checkpoint.run.get(key) != facts[key]]
            raise CheckpointError(f"{last}: is of another run: {', '.join(odd)} differ")
        if tally.step > steps:
            raise CheckpointError(f"{last}: tally: step is {tally.step}, wants at most {steps}")
        check_tensors(last, checkpoint.tensors, trainer.tensors())
        trainer.restore(checkpoint.tensors, len(checkpoint.history) * steps + tally.step)
        for record in checkpoint.history:
            self._add(record)
        self._epochs_written = len(self._history)
        if self._history:
            self._read_best()
            self._describe_best()
        return dataclasses.replace(tally)  # the checkpoint stays as it is

    def result(self) -> FitResult:
        """Give the model its best weights and say what the run came to."""
        for tensor, value in zip(self._model.tensors(), self._best_weights, strict=True):
            tensor.value[...] = value
        return FitResult(
            history=tuple(self._history),
            best_epoch=self._best_epoch,
            dev_accuracy=self._history[self._best_epoch - 1].dev_acc,
            stopped_early=len(self._history) < self._epochs,
        )

    def _add(self, record: EpochRecord) -> bool:
        self._history.append(record)
        best = record.dev_acc is None or self._stopping.update(record.dev_acc)
        if best:
            self._best_epoch = record.epoch
        return best

    def _describe_best(self) -> None:
        dev_accuracy = self._history[self._best_epoch - 1].dev_acc
        self._model.metadata.update(epoch=self._best_epoch, dev_accuracy=dev_accuracy)

    def _read_best(self) -> None:
        assert self._out is not None
        path = self._out / self._backend.model_file
        if not path.is_file():
            raise CheckpointError(f"{path}: is missing; a run cannot go on without its best so far")
        best = load_model(path)
        epoch = best.metadata.get("epoch")
        # A run that was killed may have the best of an epoch that it will repeat.
        if epoch != self._best_epoch and not (
            isinstance(epoch, int) and len(self._history) < epoch <= self._epochs
        ):
            raise CheckpointError(
                f"{path}: is of epoch {epoch!r:.80}, wants {self._best_epoch}, the best "
                f"of {run_folder.LAST}"
            )
        self._best_weights = [tensor.value for tensor in best.tensors()]
