"""What the training loop tells its caller, while it runs and at its end."""

from __future__ import annotations

from dataclasses import dataclass

from mnist100.training.history import EpochRecord


class TrainingError(RuntimeError):
    """Training that cannot go on; the message says where it broke and what to try."""


@dataclass(frozen=True)
class StepReport:
    """One step of the run.

    Parameters
    ----------
    epoch, epochs
        The epoch, from 1, and how many there will be at most.
    step, steps
        The step within the epoch, from 1, and how many an epoch has.
    loss, learning_rate
        Of this step.
    images_per_second
        Of this epoch so far.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch: its record, the epochs at most, and whether it is the best so far."""

    record: EpochRecord
    epochs: int
    best: bool


@dataclass(frozen=True)
class FitResult:
    """What a run came to.

    Parameters
    ----------
    history
        One record for each epoch.
    best_epoch
        The epoch whose weights the model holds now.
    dev_accuracy
        Its accuracy on the dev pairs, a fraction; None without a dev set.
    stopped_early
        Whether dev accuracy ended the run before the recipe's epochs were done.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    dev_accuracy: float | None
    stopped_early: bool
