"""Pictures of what a model gets wrong: what it takes for what, and the mistakes it is surest of."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from mnist100.data import PairSet
from mnist100.evaluation import DIGITS, Answers
from mnist100.plots import new_figure

# Counts on a scale of doublings; the last class is open. One error must still be seen on paper.
_LIMITS = (1, 2, 3, 5, 9, 17, 33)
# Cividis is even in lightness and the same to the colour-blind; reversed, more errors are darker.
# Its palest end is left out: one error has to stand out from white.
_COLOURS = ListedColormap(colormaps["cividis_r"](np.linspace(0.3, 1, len(_LIMITS))))
_SHEET = (6, 5)  # columns and rows of the worst mistakes


def confusion_figure(answers: Answers, title: str) -> Figure:
    """Draw the errors: class taken for class, 100×100, and digit for digit on either side, 10×10.

    Parameters
    ----------
    answers
        At least one.
    title
        Whose answers to what.
    """
    wrong = answers.confusion()
    np.fill_diagonal(wrong, 0)
    figure = new_figure(13.4, 9.6, "")
    figure.text(0.045, 0.965, title, fontsize=13)
    figure.text(
        0.045,
        0.938,
        f"{wrong.sum():,} errors in {len(answers.labels):,} pairs; correct answers are left out",
        fontsize=10,
    )
    _draw_classes(figure.add_axes((0.045, 0.065, 0.595, 0.83)), wrong)
    _draw_key(figure.add_axes((0.70, 0.955, 0.28, 0.018)))
    for left, bottom in ((True, 0.5), (False, 0.065)):
        axes = figure.add_axes((0.70, bottom, 0.28, 0.36))
        _draw_digits(axes, _digit_errors(answers, left), "Left digit" if left else "Right digit")
    return figure


def mistakes_figure(pairs: PairSet, answers: Answers, title: str) -> Figure:
    """Draw the pairs that the model was wrong about and surest of: at most 30, the surest first.

    Parameters
    ----------
    pairs
        What was asked.
    answers
        What the model said of each of them.
    title
        Whose answers to what.
    """
    columns, rows = _SHEET
    worst = answers.worst(columns * rows)
    figure = new_figure(columns * 2.0, rows * 1.5 + 0.72, "")
    top = 1 - 0.72 / figure.get_figheight()
    figure.text(0.02, 1 - 0.28 / figure.get_figheight(), title, fontsize=13)
    explained = "true → predicted, with the probability that the model gave its answer"
    if not len(worst):
        explained = "there are no mistakes"
    figure.text(0.02, 1 - 0.54 / figure.get_figheight(), explained, fontsize=10)
    width, height = 0.96 / columns, (top - 0.01) / rows
    for place, row in enumerate(worst):
        x, y = 0.02 + width * (place % columns), top - height * (place // columns + 1)
        axes = figure.add_axes((x + 0.06 * width, y, 0.88 * width, 0.78 * height))
        # Black on white, as ink: MNIST itself is white on black.
        image = 255 - pairs.images(worst[place : place + 1])[0]
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color="#999999", linewidth=0.6)
        axes.set_title(
            f"{answers.labels[row]:02d} → {answers.predicted[row]:02d}   "
            f"{100 * answers.confidence[row]:.2f}%",
            fontsize=11,
            pad=4,
        )
    return figure


def _digit_errors(answers: Answers, left: bool) -> npt.NDArray[np.int64]:
    """How often row's digit was taken for column's on one side: int64 (10, 10), the diagonal 0."""
    labels, predicted = (
        values // DIGITS if left else values % DIGITS
        for values in (answers.labels, answers.predicted)
    )
    places = DIGITS * labels + predicted
    wrong = np.bincount(places, minlength=DIGITS**2).reshape(DIGITS, DIGITS)
    np.fill_diagonal(wrong, 0)
    return wrong


def _draw_classes(axes: Axes, wrong: npt.NDArray[np.int64]) -> None:
    _draw_counts(axes, wrong)
    ticks = np.arange(0, 100, 10)
    names = [f"{tick:02d}" for tick in ticks]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    axes.tick_params(top=True, labeltop=True)
    # Lines between the tens: errors in the right digit stay within a block of the diagonal.
    for edge in np.arange(9.5, 99, 10):
        axes.axhline(edge, color="#BBBBBB", linewidth=0.6)
        axes.axvline(edge, color="#BBBBBB", linewidth=0.6)
    axes.plot([-0.5, 99.5], [-0.5, 99.5], color="#DDDDDD", linewidth=0.6, zorder=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def _draw_counts(axes: Axes, wrong: npt.NDArray[np.int64]) -> None:
    norm = BoundaryNorm([*_LIMITS, 2**62], _COLOURS.N)
    shown = np.ma.masked_equal(wrong, 0)
    axes.imshow(shown, cmap=_COLOURS, norm=norm, interpolation="nearest")


def _draw_key(axes: Axes) -> None:
    """Say how many errors a colour stands for."""
    axes.imshow(np.arange(len(_LIMITS))[np.newaxis], cmap=_COLOURS, aspect="auto")
    axes.set_xticks(range(len(_LIMITS)), _ranges())
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.set_ylabel("errors", rotation=0, ha="right", va="center")


def _ranges() -> list[str]:
    """The counts of each colour: "1", "2", "3–4", …, "33 +"."""
    names = [
        str(low) if high == low + 1 else f"{low}–{high - 1}" for low, high in pairwise(_LIMITS)
    ]
    return [*names, f"{_LIMITS[-1]} +"]


def _draw_digits(axes: Axes, wrong: npt.NDArray[np.int64], title: str) -> None:
    _draw_counts(axes, wrong)
    for true, predicted in np.argwhere(wrong):
        count = wrong[true, predicted]
        ink = "black" if count < _LIMITS[2] else "white"
        axes.text(predicted, true, f"{count}", ha="center", va="center", fontsize=9, color=ink)
    axes.plot([-0.5, 9.5], [-0.5, 9.5], color="#DDDDDD", linewidth=0.6, zorder=0)
    axes.set_xticks(range(DIGITS))
    axes.set_yticks(range(DIGITS))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{title}: {wrong.sum():,} errors", fontsize=11)
