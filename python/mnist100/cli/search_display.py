"""How a search is shown: a line for each trial, and below them a bar if there is a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from mnist100.cli.console import name_of, percent, say, time_bar
from mnist100.cli.inputs import dataset_name
from mnist100.data import Source
from mnist100.search import Point, TrialResult, TrialStep
from mnist100.search.folder import BEST, PICTURE, SUMMARY


def point_text(point: Point) -> str:
    """Return a point as people read it."""
    return f"learning rate {point.learning_rate:.4g}, lambda {point.reg_lambda:.4g}"


def best_line(best: TrialResult, source: Source) -> str:
    """Return the line with the best trial."""
    return (
        f"Best: trial {best.trial}, {point_text(best.point)}: dev accuracy {percent(best.accuracy)} "
        f"on {name_of(source)}"
    )


def advice_line(source: Source, out: Path, epochs: int, dev_size: int | None, seed: int) -> str:
    """Return the line that says where the search is told, and how to train with what it found."""
    command = ["mnist100", "train", "--dataset", dataset_name(source), "--epochs", str(epochs)]
    if dev_size is not None:
        command += ["--dev-size", str(dev_size)]
    if seed:
        command += ["--seed", str(seed)]
    return (
        f"See {out / SUMMARY} and {out / PICTURE}; train with the best: "
        f"{shlex.join([*command, '--recipe', str(out / BEST)])}"
    )


class SearchDisplay:
    """Follows a search.

    Parameters
    ----------
    console
        Where to write.
    dataset
        Named beside every accuracy.
    trials, done
        How many trials there are, and how many of them were done before.
    """

    def __init__(self, console: Console, dataset: str, trials: int, done: int) -> None:
        self._console = console
        self._dataset = dataset
        self._trials = trials
        self._before = self._done = done
        self._best = "–"
        self._bar = time_bar(console)
        self._task = self._bar.add_task("trial", total=None, state="")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the bar for a while."""
        with self._bar:
            yield

    def on_step(self, at: TrialStep) -> None:
        """Move the bar. It counts the steps of the trials that were left at the beginning."""
        steps = at.step.epochs * at.step.steps
        taken = (at.step.epoch - 1) * at.step.steps + at.step.step
        self._bar.update(
            self._task,
            description=f"trial {at.trial}/{self._trials}",
            total=(self._trials - self._before) * steps,
            completed=(self._done - self._before) * steps + taken,
            state=f"epoch {at.step.epoch}/{at.step.epochs}  loss {at.step.loss:.4f}  "
            f"best {self._best}  {at.step.images_per_second:,.0f} images/s",
        )

    def on_trial(self, result: TrialResult, *, is_best: bool) -> None:
        """Print the trial's line."""
        self._done += 1
        outcome = "diverged"
        if result.best is not None:
            outcome = (
                f"dev {percent(result.accuracy)} on {self._dataset} in epoch {result.best.epoch}"
            )
        if is_best:
            self._best = f"dev {percent(result.accuracy)}"
            outcome += "  best so far"
        elif result.outcome == "pruned":
            outcome += f"  pruned after {len(result.history)}"
        seconds = sum(record.seconds for record in result.history)
        say(
            self._console,
            f"trial {result.trial:>{len(str(self._trials))}}/{self._trials}  "
            f"{point_text(result.point)}  {seconds:.1f} s  {outcome}",
        )
