"""What the trials of a search came to, and which was best on dev."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist100.files import atomic_writer
from mnist100.search.points import Point
from mnist100.training.history import EpochRecord

OUTCOMES = ("complete", "pruned", "diverged")


@dataclass(frozen=True)
class TrialResult:
    """A trial that is done.

    Parameters
    ----------
    trial
        Its number, from 1.
    point
        What it tried.
    outcome
        ``"complete"``; ``"pruned"`` if it was given up as worse than the median; ``"diverged"`` if its
        loss or weights did not stay finite.
    history
        Its epochs; none if it diverged in the first one.
    """

    trial: int
    point: Point
    outcome: str
    history: tuple[EpochRecord, ...]

    @property
    def best(self) -> EpochRecord | None:
        """The epoch of the highest dev accuracy, the earliest of equals; None if there is none."""
        return max(self.history, key=lambda record: record.dev_acc or 0.0, default=None)

    @property
    def accuracy(self) -> float | None:
        """The highest dev accuracy, a fraction; None if no epoch was finished."""
        return None if self.best is None else self.best.dev_acc

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the history as plain values, ready for JSON."""
        best = self.best
        return {
            "trial": self.trial,
            "outcome": self.outcome,
            **self.point.as_dict(),
            "accuracy": self.accuracy,
            "best_epoch": None if best is None else best.epoch,
            "epochs": len(self.history),
            "seconds": sum(record.seconds for record in self.history),
        }


SUMMARY_HEADER = (
    "rank,trial,outcome,learning_rate,reg_lambda,dev_acc,train_acc,best_epoch,epochs,seconds"
)


def ranked(results: Iterable[TrialResult]) -> list[TrialResult]:
    """Sort trials by dev accuracy, the best first; equals by number, those without any last."""
    return sorted(
        results, key=lambda one: (1.0 if one.accuracy is None else -one.accuracy, one.trial)
    )


def best_of(results: Iterable[TrialResult]) -> TrialResult | None:
    """Return the complete trial of the highest dev accuracy, the earliest of equals, if there is one."""
    complete = (one for one in results if one.outcome == "complete")
    return next(iter(ranked(complete)), None)


def write_summary(path: Path, results: Sequence[TrialResult]) -> None:
    """Write a line a trial, the best first, replacing what was there in one step.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    text = io.StringIO(f"{SUMMARY_HEADER}\n")
    text.seek(0, io.SEEK_END)
    writer = csv.writer(text, lineterminator="\n")
    for rank, one in enumerate(ranked(results), start=1):
        facts = one.as_dict()
        train_acc = None if one.best is None else one.best.train_acc
        row = (
            rank,
            *(
                facts[key]
                for key in ("trial", "outcome", "learning_rate", "reg_lambda", "accuracy")
            ),
            train_acc,
            *(facts[key] for key in ("best_epoch", "epochs", "seconds")),
        )
        writer.writerow("" if value is None else value for value in row)
    with atomic_writer(path) as file:
        file.write(text.getvalue().encode())
