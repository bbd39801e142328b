"""Pictures of runs, drawn without a display and without matplotlib's global state."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FormatStrFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
)

from mnist100.files import atomic_writer, check_new_file
from mnist100.shifts import ShiftAccuracies
from mnist100.training.history import EpochRecord

# Okabe and Ito's palette for colour-blind readers, without its yellow, which paper swallows. In black
# and white, markers and dashes still tell the lines apart.
COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")

TRAIN = {"color": COLOURS[0], "linestyle": "-", "marker": "o", "label": "train"}
DEV = {"color": COLOURS[1], "linestyle": "--", "marker": "s", "label": "dev"}
GAP = {"color": COLOURS[2], "linestyle": "-", "marker": "^", "label": "train − dev"}

_SHARED = {"linewidth": 1.6, "markersize": 4}
_FORMATS = ("png", "pdf", "svg")


def curves(history: Sequence[EpochRecord], title: str) -> Figure:
    """Draw loss, train against dev accuracy, and the generalisation gap, epoch by epoch.

    Parameters
    ----------
    history
        The epochs of a run, at least one. Without dev accuracies, dev and gap are left out.
    title
        What the run was, above the three panels.
    """
    figure = new_figure(12, 3.9, title)
    loss, accuracy, gap = figure.subplots(1, 3)
    # Fixed, as a layout that measures its labels doubles the time, after every epoch of a run.
    figure.subplots_adjust(left=0.05, right=0.99, bottom=0.14, top=0.82, wspace=0.2)
    epochs = [record.epoch for record in history]
    _panel(loss, "Training loss", "loss", len(history))
    loss.plot(epochs, [record.loss for record in history], **TRAIN, **_SHARED)
    loss.set_ylim(bottom=0)
    _panel(accuracy, "Accuracy", "", len(history))
    accuracy.plot(epochs, [record.train_acc for record in history], **TRAIN, **_SHARED)
    _percent(accuracy)
    _panel(gap, "Generalisation gap: train − dev, in points", "", len(history))
    measured = [record for record in history if record.dev_acc is not None]
    if measured:
        epochs = [record.epoch for record in measured]
        accuracy.plot(epochs, [record.dev_acc for record in measured], **DEV, **_SHARED)
        gap.plot(epochs, [100 * _gap(record) for record in measured], **GAP, **_SHARED)
        gap.axhline(0, color="#777777", linewidth=0.8)
    else:
        _empty(gap)
    accuracy.legend(loc="lower right")
    return figure


def save_curves(history: Sequence[EpochRecord], path: Path, title: str) -> None:
    """Write the curves of a run as a PNG.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    save_figure(curves(history, title), path)


def comparison(runs: Mapping[str, Sequence[EpochRecord]]) -> Figure:
    """Lay several runs over each other: loss, train accuracy, dev accuracy and gap.

    Parameters
    ----------
    runs
        The epochs of each run, at least one of each, by the name to call it; at least one run.
    """
    rows = -(-len(runs) // 3)  # of the legend, below the panels
    figure = new_figure(11, 7.4 + 0.25 * rows, "")
    (loss, gap), (train, dev) = figure.subplots(2, 2)
    bottom = (0.75 + 0.25 * rows) / figure.get_figheight()
    figure.subplots_adjust(
        left=0.07, right=0.985, bottom=bottom, top=0.955, hspace=0.3, wspace=0.17
    )
    most = max(len(history) for history in runs.values())
    _panel(loss, "Training loss", "loss", most)
    _panel(gap, "Generalisation gap: train − dev, in points", "", most)
    _panel(train, "Train accuracy", "", most)
    _panel(dev, "Dev accuracy", "", most)
    # The cycles are of different lengths: 28 runs go by before two lines look the same.
    looks = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), itertools.cycle(DASHES))
    for (name, history), (colour, marker, dash) in zip(runs.items(), looks, strict=False):
        look = {"color": colour, "marker": marker, "linestyle": dash, "label": name, **_SHARED}
        measured = [record for record in history if record.dev_acc is not None]
        loss.plot([one.epoch for one in history], [one.loss for one in history], **look)
        train.plot([one.epoch for one in history], [one.train_acc for one in history], **look)
        dev.plot([one.epoch for one in measured], [one.dev_acc for one in measured], **look)
        gap.plot([one.epoch for one in measured], [100 * _gap(one) for one in measured], **look)
    loss.set_yscale("log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    loss.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    loss.yaxis.set_minor_locator(NullLocator())
    gap.axhline(0, color="#777777", linewidth=0.8)
    for axes in (train, dev):
        _percent(axes)
        _zoom(axes)
    if not any(record.dev_acc is not None for history in runs.values() for record in history):
        for axes in (dev, gap):
            _empty(axes)
    figure.legend(*loss.get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False)
    return figure


def shift_curves(found: Mapping[str, ShiftAccuracies], dataset: str) -> Figure:
    """Draw accuracy against the shift of the image, across and down.

    Parameters
    ----------
    found
        What was measured of each model, by the name to call it; at least one.
    dataset
        What it was measured on.
    """
    figure = new_figure(9, 4.2, f"Accuracy on {dataset} when the image moves")
    panels = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.075, right=0.985, bottom=0.13, top=0.9, wspace=0.06)
    looks = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), itertools.cycle(DASHES))
    for (name, one), (colour, marker, dash) in zip(found.items(), looks, strict=False):
        look = {"color": colour, "marker": marker, "linestyle": dash, "label": name, **_SHARED}
        for axes, accuracies in zip(panels, (one.across, one.down), strict=True):
            axes.plot(list(accuracies), list(accuracies.values()), **look)
    for axes, title in zip(panels, ("pixels to the right", "pixels down"), strict=True):
        axes.set_xlabel(title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_ylim(0, 1)
        _percent(axes)
    panels[0].legend(loc="lower center")
    return figure


def new_figure(width: float, height: float, title: str) -> Figure:
    """Return an empty figure, its size in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    return figure


def check_picture(path: Path) -> None:
    """Make sure that `path` can be drawn to, by its name and because nothing is there yet.

    Raises
    ------
    ValueError
        If its ending is none of those that can be drawn.
    FileExistsError
        If it exists; nothing is ever overwritten.
    OSError
        If its folder is none, or cannot be written to.
    """
    if path.suffix.removeprefix(".") not in _FORMATS:
        raise ValueError(f"{path}: got the ending {path.suffix!r}, wants .png, .pdf or .svg")
    check_new_file(path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically, in the format that the ending of `path` names.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with atomic_writer(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix("."), dpi=150)


def _panel(axes: Axes, title: str, y: str, epochs: int) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("epoch")
    axes.set_ylabel(y)
    margin = max(0.5, 0.02 * epochs)
    axes.set_xlim(1 - margin, epochs + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.grid(visible=True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _zoom(axes: Axes) -> None:
    """Show where the runs end, and not their first epochs, which would flatten that.

    Four times as far below the best accuracy as the worst end is, or to the least of all.
    """
    lines = [np.asarray(line.get_ydata(), np.float64) for line in axes.lines]
    lines = [line for line in lines if len(line)]
    if not lines:
        return
    best = max(line.max() for line in lines)
    worst_end = min(line[-1] for line in lines)
    least = min(line.min() for line in lines)
    low = max(best - 4 * max(best - worst_end, 0.02), least - 0.02)
    axes.set_ylim(low, min(best + 0.08 * (best - low), 1 + 0.02 * (best - low)))


def _empty(axes: Axes) -> None:
    axes.set_yticks([])
    axes.text(0.5, 0.5, "no dev set", ha="center", va="center", transform=axes.transAxes)


def _gap(record: EpochRecord) -> float:
    return record.train_acc - (record.dev_acc or 0.0)
