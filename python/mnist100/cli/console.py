"""What commands show: plain lines, results, and progress on a terminal."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from mnist100._config import config
from mnist100.data import FileProgress, Source, load_source
from mnist100.evaluation import ClassResult, Evaluation
from mnist100.training.reports import EpochReport, StepReport


def open_console(*, json_output: bool) -> Console:
    """Return where a command writes for people: standard output, unless JSON goes there."""
    return Console(file=sys.stderr if json_output else sys.stdout, highlight=False)


def say(console: Console, text: str) -> None:
    """Print one line as it is: no wrapping, no markup."""
    console.print(text, markup=False, emoji=False, soft_wrap=True)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(value, allow_nan=False), flush=True)


def percent(fraction: float | None) -> str:
    """Return a fraction as people read it, or a dash for none."""
    return "–" if fraction is None else f"{100 * fraction:.2f}%"


def name_of(source: Source) -> str:
    """Return what to call a data set beside an accuracy; a stand-in for MNIST says that it is."""
    return f"{source.name} (not MNIST)" if source.notice else source.name


def accuracy_line(result: Evaluation, dataset: str) -> str:
    """Return the line with the test accuracy, its interval and its data set."""
    low, high = (100 * end for end in result.interval)
    return (
        f"Test accuracy: {percent(result.accuracy)} ({result.correct}/{result.total}), "
        f"95% interval {low:.2f}–{high:.2f}%, on {dataset}"
    )


def class_line(result: ClassResult) -> str:
    """Return a class as ``29: 90.20% (92/102)``."""
    return f"{result.label:02d}: {percent(result.accuracy)} ({result.correct}/{result.total})"


def class_table(result: Evaluation) -> Iterator[str]:
    """Yield the lines of a table of accuracy by class, in percent, each above its interval."""
    yield "    " + "".join(f"{ones:>7}" for ones in range(10))
    for tens in range(10):
        row = result.per_class[10 * tens : 10 * tens + 10]
        cells = ("–" if one.accuracy is None else f"{100 * one.accuracy:.1f}" for one in row)
        yield f"{tens:>4}" + "".join(f"{cell:>7}" for cell in cells)
        yield "    " + "".join(f"{_whole_percents(one.interval):>7}" for one in row)


def _whole_percents(interval: tuple[float, float] | None) -> str:
    # Outward, so that the interval still holds what it should.
    if interval is None:
        return ""
    return f"{math.floor(100 * interval[0])}–{math.ceil(100 * interval[1])}"


def digit_table(result: Evaluation) -> Iterator[str]:
    """Yield the lines of a table of accuracy by digit, on the left and on the right."""
    yield f"{'':>4}{'left':>22}{'right':>24}"
    for left, right in zip(result.left, result.right, strict=True):
        yield f"{left.label:>4}{_with_interval(left):>24}{_with_interval(right):>24}"


def _with_interval(one: ClassResult) -> str:
    if one.interval is None:
        return "–"
    low, high = (100 * end for end in one.interval)
    return f"{percent(one.accuracy)}  ({low:.1f}–{high:.1f}%)"


def calibration_line(result: Evaluation, dataset: str) -> str:
    """Return the line that compares confidence with accuracy."""
    calibration = result.calibration
    return (
        f"Calibration on {dataset}: expected error (ECE, {len(calibration.bins)} bins) "
        f"{percent(calibration.error)}, mean confidence {percent(calibration.confidence)}"
    )


@contextmanager
def file_bars(column: ProgressColumn) -> Iterator[FileProgress]:
    """Give a block what shows its progress, a bar a file, on standard error if that is a terminal.

    Parameters
    ----------
    column
        Shows how much of a file is done.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), column)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=None)
            bar.update(tasks[name], completed=done, total=total or None)

        yield show


def threads_in_use() -> str:
    """Say how many threads the kernels use."""
    count = config()["threads"]
    return "1 thread" if count == 1 else f"{count} threads"


def load_with_progress(dataset: str) -> Source:
    """Load a data set, with bars while it downloads or is parsed."""
    with file_bars(DownloadColumn()) as show:
        return load_source(dataset, progress=show)


def time_bar(console: Console) -> Progress:
    """Return a bar with a state and the time left, shown if the console is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class TrainingDisplay:
    """Follows a run: a line for each epoch, and below them a bar if there is a terminal.

    Parameters
    ----------
    console
        Where to write.
    dataset
        Named beside every accuracy.
    """

    def __init__(self, console: Console, dataset: str) -> None:
        self._console = console
        self._dataset = dataset
        self._accuracy = "–"
        self._bar = time_bar(console)
        self._task = self._bar.add_task("epoch 1", total=None, state="")

    @contextmanager
    def running(self) -> Iterator[TrainingDisplay]:
        """Show the bar for a while."""
        with self._bar:
            yield self

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        self._bar.update(
            self._task,
            description=f"epoch {report.epoch}/{report.epochs}",
            total=report.epochs * report.steps,
            completed=(report.epoch - 1) * report.steps + report.step,
            state=f"loss {report.loss:.4f}  accuracy {self._accuracy}  "
            f"{report.images_per_second:,.0f} images/s",
        )

    def on_epoch(self, report: EpochReport) -> None:
        """Print the epoch's line."""
        record = report.record
        measured = f"train {percent(record.train_acc)}"
        self._accuracy = measured
        if record.dev_acc is not None:
            self._accuracy = f"dev {percent(record.dev_acc)}"
            measured += f"  {self._accuracy}"
        best = "  best so far" if report.best and record.dev_acc is not None else ""
        say(
            self._console,
            f"epoch {record.epoch:>{len(str(report.epochs))}}/{report.epochs}  "
            f"loss {record.loss:.4f}  {measured} on {self._dataset}  {record.seconds:.1f} s  "
            f"{record.images_per_second:,.0f} images/s{best}",
        )
