"""Pictures: what they show is what was measured, and they get to disk whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from matplotlib.lines import Line2D

from mnist100 import error_plots, plots
from mnist100.cli import main
from mnist100.data import PairSet, published_pairs
from mnist100.evaluation import Answers
from mnist100.plots import comparison, curves, save_curves, save_figure
from mnist100.training import EpochRecord
from mnist100.training.history import write_history
from runs import easy_digits
from support import PATIENCE

RECORDS = [
    EpochRecord(1, 1 / 3, 0.1, None, 1e-17, 2.5, 1e6 / 3),
    EpochRecord(2, 0.1 + 0.2, 0.9, 0.875, 1e-3, 2.0, 7.0),
]


def points(line: Line2D) -> list[list[float]]:
    values: list[list[float]] = np.asarray(line.get_xydata()).tolist()
    return values


def test_curves_show_the_history(tmp_path: Path) -> None:
    loss, accuracies, gap = curves(RECORDS, "a run").axes
    assert points(loss.lines[0]) == [[1, 1 / 3], [2, 0.1 + 0.2]]
    assert [points(line) for line in accuracies.lines] == [[[1, 0.1], [2, 0.9]], [[2, 0.875]]]
    np.testing.assert_allclose(points(gap.lines[0]), [[2, 2.5]])
    save_curves(RECORDS, tmp_path / "curves.png", "a run")
    assert imread(tmp_path / "curves.png").shape == (585, 1800, 4)


def test_curves_without_a_dev_set_say_so() -> None:
    _, accuracies, gap = curves(RECORDS[:1], "a run").axes
    assert len(accuracies.lines) == 1
    assert not gap.lines
    assert [text.get_text() for text in gap.texts] == ["no dev set"]


def history(epochs: int, dev: float) -> list[EpochRecord]:
    return [
        EpochRecord(i, 1 / i, dev + 0.01, dev - 0.3 / i, 1e-3, 1.0, 1.0)
        for i in range(1, epochs + 1)
    ]


def test_a_comparison_has_a_line_for_each_run() -> None:
    runs = {f"run {i}": history(i + 1, 0.9) for i in range(9)}
    figure = comparison(runs)
    loss, gap, train, dev = figure.axes
    for axes in (loss, train, dev):
        assert [len(points(line)) for line in axes.lines] == list(range(1, 10))
    assert points(dev.lines[2]) == [[one.epoch, one.dev_acc] for one in runs["run 2"]]
    assert points(gap.lines[1])[0] == [1, pytest.approx(31)]
    looks = {(one.get_color(), one.get_marker(), one.get_linestyle()) for one in loss.lines}
    assert len(looks) == 9
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(runs)


def test_a_comparison_shows_where_runs_end() -> None:
    runs = {"poor start": [*history(1, 0.35), *history(9, 0.98)[1:]], "good": history(9, 0.99)}
    _, _, _, dev = comparison(runs).axes
    low, high = dev.get_ylim()
    assert 0.05 < high - low < 0.25
    for line in dev.lines:
        assert low < points(line)[-1][1] < high


def test_a_comparison_without_dev_sets_says_so() -> None:
    _, gap, _, dev = comparison({"a": RECORDS[:1], "b": RECORDS[:1]}).axes
    for axes in (gap, dev):
        assert [text.get_text() for text in axes.texts] == ["no dev set"]


def luminance(colour: Any) -> float:
    """Relative luminance of WCAG 2, from 0, black, to 1, white."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_every_line_stands_out_from_paper() -> None:
    for colour in plots.COLOURS:
        assert 1.05 / (luminance(colour) + 0.05) > 2, colour


@pytest.fixture
def pairs() -> PairSet:
    return published_pairs(easy_digits(60, 1))


def some_answers(pairs: PairSet, wrong: int) -> Answers:
    """The right answers, but for the first few pairs, which are taken for the class 11 higher."""
    predicted = pairs.labels.copy()
    predicted[:wrong] = (predicted[:wrong] + 11) % 100
    confidence = np.linspace(0.5, 0.9, len(pairs), dtype=np.float32)
    return Answers(pairs.labels, predicted, confidence)


def test_the_confusion_picture_shows_errors_and_nothing_else(pairs: PairSet) -> None:
    answers = some_answers(pairs, 7)
    figure = error_plots.confusion_figure(answers, "a model")
    classes, _, left, right = figure.axes
    shown = np.ma.MaskedArray(classes.images[0].get_array()).filled(0)
    expected = answers.confusion()
    np.fill_diagonal(expected, 0)
    assert expected.sum() == 7
    np.testing.assert_array_equal(shown, expected)
    for axes in (left, right):
        assert sum(int(text.get_text()) for text in axes.texts) == 7
    assert "7 errors in 60 pairs" in figure.texts[1].get_text()


def test_one_error_can_be_seen_and_more_are_darker() -> None:
    count = error_plots._COLOURS.N
    shades = [luminance(error_plots._COLOURS(i)[:3]) for i in range(count)]
    assert shades == sorted(shades, reverse=True)
    assert 1.05 / (shades[0] + 0.05) > 1.8
    assert len(error_plots._ranges()) == len(shades)


def test_the_sheet_shows_the_surest_mistakes(pairs: PairSet) -> None:
    figure = error_plots.mistakes_figure(pairs, some_answers(pairs, 40), "a model")
    assert len(figure.axes) == 30
    first = figure.axes[0]
    label = int(pairs.labels[39])
    assert first.get_title().startswith(f"{label:02d} → {(label + 11) % 100:02d}   76.")
    image = 255 - pairs.images(np.array([39]))[0]
    np.testing.assert_array_equal(np.asarray(first.images[0].get_array()), image)


def test_a_model_without_mistakes_has_an_empty_sheet(pairs: PairSet, tmp_path: Path) -> None:
    answers = some_answers(pairs, 0)
    sheet = error_plots.mistakes_figure(pairs, answers, "a model")
    assert not sheet.axes
    assert sheet.texts[1].get_text() == "there are no mistakes"
    save_figure(error_plots.confusion_figure(answers, "a model"), tmp_path / "none.png")


# The command line.


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Folders of two runs."""
    folders = [tmp_path / "one" / "run", tmp_path / "two" / "run"]
    for folder, dev in zip(folders, (0.8, 0.9), strict=True):
        folder.mkdir(parents=True)
        write_history(folder / "history.csv", history(3, dev))
    return folders


@pytest.mark.parametrize(
    ("ending", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_plot_draws_what_the_ending_says(
    ending: str, start: bytes, runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"both.{ending}"
    assert main.main(["plot", *map(str, runs), "--out", str(out), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value == {"out": str(out), "runs": [str(folder) for folder in runs]}
    assert out.read_bytes().startswith(start)


def test_plot_takes_one_run_or_its_history(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "one.png"
    assert main.main(["plot", str(runs[0] / "history.csv"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"Drawn: {out}\n"
    assert out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--out", "a.jpg"], "a.jpg: got the ending '.jpg', wants .png, .pdf or .svg"),
        (["RUN", "--out", "taken.png"], "taken.png: exists already"),
        (["RUN", "RUN", "--out", "a.png"], "wants each of them once"),
        (["nothing", "--out", "a.png"], "nothing: no run with a finished epoch here"),
        ([".", "--out", "a.png"], "no run with a finished epoch here (no history.csv)"),
        (["taken.png", "--out", "a.png"], "taken.png: line 1: wants the header"),
        (["RUN", "--out", "no/where/a.png"], "no/where: is not a folder; give another --out"),
    ],
)
def test_what_cannot_be_plotted_is_one_line(
    arguments: list[str],
    message: str,
    runs: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.png").touch()
    assert main.main(["plot", *(str(runs[0]) if one == "RUN" else one for one in arguments)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert output.err.count("\n") == 1
    assert not Path("a.png").exists()


def test_plotting_needs_no_display(runs: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys; from mnist100.cli.main import main\n"
        f"assert main(['plot', {str(runs[0])!r}, '--out', {str(tmp_path / 'a.png')!r}]) == 0\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=PATIENCE)
