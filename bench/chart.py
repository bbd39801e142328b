"""The bars of the goals: how many times as fast as the others, with quartiles, floor and goal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from goals import Row

# Ink, faint ink and the bars' colour, on a page that is white or nearly black.
LOOKS = {
    "results.svg": {"ink": "#1f2328", "faint": "#8c959f", "bar": "#0072b2"},
    "results-dark.svg": {"ink": "#e6edf3", "faint": "#7d8590", "bar": "#56b4e9"},
}


def write(rows: Sequence[Row], title: str, folder: Path) -> None:
    """Draw the charted rows, for light and for dark pages; the background is the page's."""
    charted = [row for row in rows if row.charted]
    for name, look in LOOKS.items():
        with mpl.rc_context({"svg.hashsalt": "mnist100"}):
            figure = Figure(figsize=(9, 0.9 + 0.42 * len(charted)))
            FigureCanvasSVG(figure)
            _draw(figure.subplots(), charted, look)
            figure.suptitle(title, color=look["ink"], fontsize=11, x=0.01, ha="left")
            figure.tight_layout(rect=(0, 0, 1, 0.99))
            # Fixed ids and no date: the same figures give the same file.
            figure.savefig(folder / name, transparent=True, metadata={"Date": None})


def _draw(axes: Axes, rows: Sequence[Row], look: dict[str, str]) -> None:
    ends = []
    for place, row in enumerate(rows):
        assert row.value is not None
        value, goal = row.value, row.goal
        axes.barh(place, value.median, height=0.6, color=look["bar"])
        axes.plot([value.low, value.high], [place, place], color=look["ink"], linewidth=1.2)
        for bound, style in ((goal.floor, ":"), (goal.goal, "-")):
            axes.plot(
                [bound, bound],
                [place - 0.4, place + 0.4],
                style,
                color=look["faint"],
                linewidth=1.6,
            )
        ends.append(max(value.high, goal.goal))
        axes.text(
            1,
            place,
            f"{value.median:.2f}×",
            transform=axes.get_yaxis_transform(),  # a column at the right edge
            ha="right",
            va="center",
            color=look["ink"],
            weight="bold",
        )
    axes.axvline(1, color=look["ink"], linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.what.replace("`", "") for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(ends))
    axes.set_xlabel(
        "times as fast as the other library's best (line at 1×); dotted: floor, solid: goal",
        color=look["ink"],
        fontsize=9,
    )
    axes.tick_params(colors=look["ink"], labelsize=9, length=0)
    axes.spines[:].set_visible(False)
