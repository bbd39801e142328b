"""Pictures of a run, drawn without a display and without matplotlib's global state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mnist100.files import atomic_writer
from mnist100.training.history import EpochRecord

# Two colours of Okabe and Ito's palette for colour-blind readers. In black and white, the marker
# and the dashes still tell the lines apart.
TRAIN = {"color": "#0072B2", "linestyle": "-", "marker": "o", "label": "train"}
DEV = {"color": "#D55E00", "linestyle": "--", "marker": "s", "label": "dev"}
GAP = {"color": "#000000", "linestyle": "-", "marker": "^", "label": "train − dev"}

_SHARED = {"linewidth": 1.6, "markersize": 4}


def curves(history: Sequence[EpochRecord], title: str) -> Figure:
    """Draw loss, train against dev accuracy, and the generalisation gap, epoch by epoch.

    Parameters
    ----------
    history
        The epochs of a run, at least one. Without dev accuracies, dev and gap are left out.
    title
        What the run was, above the three panels.
    """
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    loss, accuracy, gap = figure.subplots(1, 3)
    epochs = [record.epoch for record in history]
    for axes in (loss, accuracy, gap):
        axes.set_xlim(0.5, len(history) + 0.5)
    _panel(loss, "Training loss", "loss")
    loss.plot(epochs, [record.loss for record in history], **TRAIN, **_SHARED)
    loss.set_ylim(bottom=0)
    _panel(accuracy, "Accuracy", "accuracy")
    accuracy.plot(epochs, [record.train_acc for record in history], **TRAIN, **_SHARED)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    _panel(gap, "Generalisation gap", "percentage points")
    measured = [record for record in history if record.dev_acc is not None]
    if measured:
        epochs = [record.epoch for record in measured]
        accuracy.plot(epochs, [record.dev_acc for record in measured], **DEV, **_SHARED)
        gap.plot(epochs, [100 * _gap(record) for record in measured], **GAP, **_SHARED)
        gap.axhline(0, color="#999999", linewidth=0.8)
        gap.legend(loc="best")
    else:
        gap.set_yticks([])
        gap.text(0.5, 0.5, "no dev set", ha="center", va="center", transform=gap.transAxes)
    accuracy.legend(loc="lower right")
    return figure


def save_curves(history: Sequence[EpochRecord], path: Path, title: str) -> None:
    """Write the curves of a run as a PNG.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    figure = curves(history, title)
    with atomic_writer(path) as file:
        figure.savefig(file, format="png", dpi=150)


def _panel(axes: Axes, title: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.grid(visible=True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _gap(record: EpochRecord) -> float:
    return record.train_acc - (record.dev_acc or 0.0)
