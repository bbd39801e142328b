"""A picture of a search: what was tried, and how good it was on dev."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mnist100.plots import COLOURS, DASHES, DEV, MARKERS, TRAIN, new_figure, save_figure
from mnist100.search.results import TrialResult, best_of

_LABELS = {"learning_rate": "learning rate", "reg_lambda": "λ, strength of the L2 term"}

# Accuracy is drawn by its error on a logarithmic axis, upside down: 98 and 99 % are as far apart as 80
# and 90. An error of none stands at the least.
_LEAST_ERROR = 5e-4
# Round accuracies to mark, those that matter most first; one too near to another is left out.
_TICKS = (
    0.5,
    0.9,
    0.99,
    0.8,
    0.95,
    0.98,
    0.7,
    0.97,
    0.995,
    0.6,
    0.3,
    0.999,
    0.1,
    0.85,
    0.96,
    0.975,
)
_MORE_TICKS = (0.985, 0.992, 0.997, 0.94, 0.93, 0.92, 0.91, 0.88, 0.86, 0.75, 0.65, 0.4, 0.2)
_APART = 0.07  # of the axis, at least

# Even in lightness, and the same to the colour-blind: the darker, the better.
_COLOUR_MAP = "cividis"
_BEST: dict[str, Any] = {
    "marker": "*",
    "markersize": 17,
    "color": COLOURS[1],
    "markeredgecolor": "white",
    "linestyle": "",
}
_DIVERGED: dict[str, Any] = {
    "marker": "x",
    "markersize": 9,
    "markeredgewidth": 2,
    "color": "#555555",
    "linestyle": "",
}
_COMPLETE, _PRUNED = "o", "v"


def search_figure(results: Sequence[TrialResult], title: str) -> Figure:
    """Draw a search: learning rates alone, or learning rates and λs.

    Parameters
    ----------
    results
        Trials that are done, at least one.
    title
        What was searched.
    """
    if len({one.point.reg_lambda for one in results}) > 1:
        return _plane(results, title)
    return _sweep(results, title)


def save_search(results: Sequence[TrialResult], path: Path, title: str) -> None:
    """Write the picture of a search.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    save_figure(search_figure(results, title), path)


def _plane(results: Sequence[TrialResult], title: str) -> Figure:
    """Draw both values against each other, and accuracy against each of them."""
    figure = new_figure(13, 4.7, title)
    plane, by_rate, by_lambda = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    figure.subplots_adjust(left=0.065, right=0.99, bottom=0.22, top=0.85, wspace=0.22)
    measured = [one for one in results if one.accuracy is not None]
    errors = [_error(one.accuracy) for one in measured]
    norm = LogNorm(0.97 * min(errors, default=1.0), 1.03 * max(errors, default=1.0))
    best = best_of(results)
    for one in (one for one in measured if one is not best):
        marker = _COMPLETE if one.outcome == "complete" else _PRUNED
        look = {"c": [_error(one.accuracy)], "cmap": _COLOUR_MAP, "norm": norm, "marker": marker}
        edge = {"s": 75, "edgecolor": "#333333", "linewidth": 0.6}
        plane.scatter(one.point.learning_rate, one.point.reg_lambda, **look, **edge)
        by_rate.scatter(one.point.learning_rate, _error(one.accuracy), **look, **edge)
        by_lambda.scatter(one.point.reg_lambda, _error(one.accuracy), **look, **edge)
    for one in (one for one in results if one.accuracy is None):
        plane.plot(one.point.learning_rate, one.point.reg_lambda, **_DIVERGED)
    if best is not None and best.accuracy is not None:
        plane.plot(best.point.learning_rate, best.point.reg_lambda, **_BEST)
        by_rate.plot(best.point.learning_rate, _error(best.accuracy), **_BEST)
        by_lambda.plot(best.point.reg_lambda, _error(best.accuracy), **_BEST)
    _panel(plane, "What was tried; darker is better", "learning_rate")
    _log_scale(plane, "y")
    plane.set_ylabel(_LABELS["reg_lambda"])
    _panel(by_rate, "Dev accuracy by learning rate", "learning_rate")
    _panel(by_lambda, "Dev accuracy by λ", "reg_lambda")
    for axes in (by_rate, by_lambda):
        _accuracy_axis(axes, errors)
    _legend(figure, results)
    return figure


def _sweep(results: Sequence[TrialResult], title: str) -> Figure:
    """Draw accuracy against the learning rate, and epoch by epoch."""
    figure = new_figure(11, 4.5, title)
    by_rate, by_epoch = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.065, right=0.985, bottom=0.13, top=0.85, wspace=0.17)
    ordered = sorted(results, key=lambda one: one.point.learning_rate)
    measured = [one for one in ordered if one.best is not None]
    rates = [one.point.learning_rate for one in measured]
    bests = [one.best for one in measured if one.best is not None]
    by_rate.plot(rates, [_error(one.train_acc) for one in bests], **TRAIN, linewidth=1.6)
    by_rate.plot(rates, [_error(one.dev_acc) for one in bests], **DEV, linewidth=1.6)
    best = best_of(results)
    if best is not None and best.accuracy is not None:
        by_rate.plot(best.point.learning_rate, _error(best.accuracy), label="best on dev", **_BEST)
    looks = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), itertools.cycle(DASHES))
    for one, (colour, marker, dash) in zip(measured, looks, strict=False):
        by_epoch.plot(
            [record.epoch for record in one.history],
            [_error(record.dev_acc) for record in one.history],
            color=colour,
            marker=marker,
            linestyle=dash,
            linewidth=1.6,
            markersize=5,
            label=f"{one.point.learning_rate:.4g}",
        )
    _panel(by_rate, "Accuracy by learning rate, in the best epoch", "learning_rate")
    by_epoch.set_title("Dev accuracy by epoch", fontsize=11)
    by_epoch.set_xlabel("epoch")
    by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in (by_rate, by_epoch):
        drawn = [float(error) for line in axes.lines for error in np.asarray(line.get_ydata())]
        _accuracy_axis(axes, drawn)
        _grid(axes)
    lost = [one.point.learning_rate for one in ordered if one.best is None]
    if lost:  # along the lower edge
        low = {"transform": by_rate.get_xaxis_transform(), "label": "diverged"}
        by_rate.plot(lost, [0.03] * len(lost), **low, **_DIVERGED)
    by_rate.legend()
    if measured:
        by_epoch.legend(title="learning rate", fontsize=9)
    return figure


def _error(accuracy: float | None) -> float:
    return max(1.0 - (accuracy or 0.0), _LEAST_ERROR)


def _panel(axes: Axes, title: str, key: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(_LABELS[key])
    _log_scale(axes, "x")
    _grid(axes)


def _grid(axes: Axes) -> None:
    axes.grid(visible=True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _log_scale(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, with few and plain numbers."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if which == "x":
        axes.set_xscale("log")
    else:
        axes.set_yscale("log")
    low, high = axis.get_view_interval()
    between = (1, 2, 5) if high < 30 * low else (1, 3) if high < 1000 * low else (1,)
    short = high < 3 * low
    axis.set_major_locator(MaxNLocator(4) if short else LogLocator(subs=between))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_locator(NullLocator())


def _plain(value: float, _: int | None = None) -> str:
    """Write a number as one would type it: 0.003 and 1e-6."""
    return f"{value:g}".replace("e-0", "e-")


def _accuracy_axis(axes: Axes, errors: Sequence[float]) -> None:
    """Turn an axis that shows these errors into one of accuracies, the best on top."""
    spread = max(errors, default=1.0) / min(errors, default=1.0)
    margin = max(spread**0.07, 1.1)  # a fourteenth of the axis, or a tenth of an error
    worst = max(errors, default=1.0)
    # Nothing is worse than an error of one, which keeps its marker whole.
    low, high = min(errors, default=1.0) / margin, min(worst * margin, max(1.0, worst * 1.03))
    axes.set_ylim(high, low)  # before the scale, which cannot find limits around a single point
    axes.set_yscale("log")
    marked: list[float] = []
    for error in (1 - accuracy for accuracy in (*_TICKS, *_MORE_TICKS)):
        apart = _APART * math.log(high / low)
        if low <= error <= high and all(abs(math.log(error / one)) > apart for one in marked):
            marked.append(error)
    if len(marked) < 2:  # a short axis, or a low one
        accuracies = MaxNLocator(5).tick_values(1 - min(high, 1.0), 1 - low)
        marked = [1 - accuracy for accuracy in accuracies if low <= 1 - accuracy <= min(high, 1.0)]
    axes.yaxis.set_major_locator(FixedLocator(marked))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 * (1 - error):g}%"))
    axes.yaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, results: Sequence[TrialResult]) -> None:
    """Say what the marks stand for, of those that are there."""
    hollow: dict[str, Any] = {
        "color": "#777777",
        "markersize": 8,
        "markeredgecolor": "#333333",
        "linestyle": "",
    }
    marks = {
        "complete": Line2D([], [], marker=_COMPLETE, **hollow),
        "pruned": Line2D([], [], marker=_PRUNED, **hollow),
        "diverged": Line2D([], [], **_DIVERGED),
    }
    outcomes = {one.outcome for one in results}
    shown = {name: mark for name, mark in marks.items() if name in outcomes}
    if "complete" in outcomes:
        shown = {"best on dev": Line2D([], [], **_BEST), **shown}
    figure.legend(shown.values(), shown.keys(), loc="lower center", ncols=4, frameon=False)
