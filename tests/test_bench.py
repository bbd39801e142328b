"""The benchmarks' own logic: spreads, turns, verdicts, documents, workers; no time is judged."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import accuracy
import chart
import report
import results
import startup
import timing
from goals import Goal, Row, contest_rows, epoch_row, isa_row, memory_row, scaling_row, start_rows
from gpu_kernels import rows
from measure import Contest
from mnist100.data import read_folder
from results import Findings
from timing import Spread
from worker import Worker, WorkerError
from workloads import (
    GEMMS,
    INFERENCE,
    LATENCY,
    STEP,
    WINDOWS,
    WORKLOADS,
    DisagreementError,
    verify,
)


def test_a_spread_is_median_and_quartiles() -> None:
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Spread(3.0, 2.0, 4.0)
    with pytest.raises(ValueError, match="values: got none"):
        Spread.of([])


def test_ratios_are_taken_round_by_round() -> None:
    # The third round of one, and a machine half as fast in the second, must not matter.
    assert timing.ratio([2.0, 4.0, 9.0], [1.0, 2.0]) == Spread(2.0, 2.0, 2.0)


def test_turns_interleave_and_make_as_many_calls() -> None:
    log: list[tuple[str, int]] = []

    def contestant(name: str, seconds: float) -> Callable[[int], float]:
        def turn(calls: int) -> float:
            log.append((name, calls))
            return seconds

        return turn

    times = timing.interleaved(
        {"a": contestant("a", 0.01), "b": contestant("b", 0.5)},
        rounds=3,
        slot_seconds=0.05,
        budget_seconds=60,
    )
    assert times == {"a": [0.01] * 3, "b": [0.5] * 3}
    assert log[:2] == [("a", 1), ("b", 1)]
    assert log[2:] == [("a", 5), ("b", 5), ("b", 5), ("a", 5), ("a", 5), ("b", 5)]


def test_who_has_spent_the_budget_sits_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    times = timing.interleaved({"a": lambda _: 1.0}, rounds=9, slot_seconds=1, budget_seconds=2.5)
    assert len(times["a"]) == 3


def test_peaks_are_positive() -> None:
    assert timing.fma_peak(1) > 0
    assert timing.copy_bandwidth(1) > 0


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        (Goal(2, 3), 3.0, "goal met"),
        (Goal(2, 3), 2.9, "floor met"),
        (Goal(2, 3), 1.9, "not met"),
        (Goal(1.15, 1.05, at_least=False), 1.04, "goal met"),
        (Goal(1.15, 1.05, at_least=False), 1.15, "floor met"),
        (Goal(1.15, 1.05, at_least=False), 1.16, "not met"),
    ],
)
def test_verdicts(goal: Goal, value: float, verdict: str) -> None:
    assert Row("x", goal, Spread(value, value, value), "y").cells()[5] == verdict


def test_workloads_are_named_once_and_differences_found() -> None:
    assert len({id(one) for one in WORKLOADS.values()}) == len(WORKLOADS)
    expected = {"y": np.ones(4, np.float32)}
    verify(STEP, "us", {"y": np.full(4, 1 + 1e-6, np.float32)}, expected)
    for wrong in (2.0, np.nan):
        with pytest.raises(DisagreementError, match="step: us differs by"):
            verify(STEP, "us", {"y": np.full(4, wrong, np.float32)}, expected)
    with pytest.raises(ValueError, match="got y of shape"):
        verify(STEP, "us", {"y": np.ones(3, np.float32)}, expected)


@pytest.fixture(scope="module")
def contests() -> dict[str, Contest]:
    """Made-up times in which every rival takes two to four times as long."""
    found = {}
    for workload in [STEP, INFERENCE, LATENCY, *WINDOWS, *GEMMS]:
        times = {
            "PyTorch eager": [4.0, 4.4],
            "PyTorch channels_last": [3.0, 3.3],
            "mnist100": [1.0, 1.1],
            "NumPy": [2.0, 2.2],
        }
        found[workload.name] = Contest(workload, times)
    return found


@pytest.fixture(scope="module")
def findings(contests: dict[str, Contest]) -> Findings:
    step = contests["step"]
    failed = replace(step, failures={"PyTorch compile": "no compiler"})
    epochs = {"mnist100": [1.2, 1.1], "mnist100, bare steps": [1.0, 1.0]}
    starts = {name: [0.1, 0.2] for name in startup.STARTS}
    rows = [
        *contest_rows(contests),
        epoch_row(epochs),
        scaling_row({1: [2.0], 2: [1.0]}),
        isa_row("v3", None, "v3 is the widest here"),
        memory_row(250_000_000),
        *start_rows(starts),
    ]
    facts = {
        "mnist100": {"version": "1", "isa": "v3", "compiler": "gcc"},
        "torch": {"version": "2"},
        "numpy": {"version": "3"},
    }
    return Findings(
        command="python bench/report.py",
        threads=2,
        minutes=1.0,
        load=0.5,
        facts=facts,
        peak=100.0,
        peaks={"v3": 100.0},
        bandwidth=10.0,
        rows=rows,
        contests=[failed, *contests.values()],
        epoch=Contest(WORKLOADS["epoch"], {"mnist100": [2.0]}),
        live={"conv1, start": 0.5},
    )


def test_the_table_of_goals(findings: Findings) -> None:
    cells = {row.what: row.cells() for row in findings.rows}
    assert len(cells) == 15
    step = cells["training step, batch 256"]
    assert step[1:6] == ["3.00×", "3.00× – 3.00×", "2.70×", "3.50×", "floor met"]
    assert "PyTorch channels_last" in step[6]
    assert cells["`max_pool2d` forward + backward against NCHW"][1] == "4.00×"
    assert cells["`gemm`, the worst product"][1] == "2.00×"
    assert "NumPy" in cells["`gemm`, the worst product"][6]
    assert cells["training step, AVX2 variant against the AVX-512 one"][5] == "skipped"
    assert cells["peak memory, training run of 50,000 pairs"][1] == "250 MB"


def test_the_document(findings: Findings) -> None:
    lines = results.document(findings)
    assert lines[:3] == ["# Results", "", results.goal_table(findings.rows)[0]]
    text = "\n".join(lines)
    assert "PyTorch compile unavailable" in text
    assert "gcc" in text
    widths = {line.count("|") for line in results.goal_table(findings.rows)}
    assert len(widths) == 1


def test_the_readme_is_changed_between_its_markers(tmp_path: Path, findings: Findings) -> None:
    readme = tmp_path / "README.md"
    begin, end = results.markers(results.REPORT)
    readme.write_text(f"above\n{begin}\nstale\n{end}\nbelow\n", encoding="utf-8")
    for _ in range(2):
        results.update_readme(readme, results.readme_lines(findings), results.REPORT)
        text = readme.read_text(encoding="utf-8")
        assert text.startswith(f"above\n{begin}\n")
        assert text.endswith(f"\n{end}\nbelow\n")
        assert "stale" not in text
        assert text.count("training step") == 1
    readme.write_text("no markers", encoding="utf-8")
    with pytest.raises(ValueError, match="got no markers"):
        results.update_readme(readme, ["x"], results.REPORT)


@pytest.mark.parametrize("script", [results.REPORT, results.ACCURACY])
def test_our_readme_has_the_markers(script: str) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    begin, end = results.markers(script)
    assert text.index(begin) < text.index(end)


def test_the_table_of_accuracies() -> None:
    runs = [
        accuracy.Outcome(test=0.98, dev=0.97, wall=90.0, training=70.0),
        accuracy.Outcome(test=0.99, dev=0.98, wall=100.0, training=72.0),
    ]
    head, _, *rows = accuracy.lines({"default": runs, "fast": runs[:1]})
    assert "seed 1" in head
    assert "**98.50 %** ± 0.71" in rows[0]
    assert rows[0].endswith("| 97.50 % | 71 s | 95 s |")
    assert len({line.count("|") for line in (head, *rows)}) == 1


def test_a_run_without_dev_data_says_so_in_the_table() -> None:
    runs = [accuracy.Outcome(test=0.99, dev=None, wall=9.0, training=7.0)]
    assert accuracy.lines({"best": runs})[-1].endswith("| none | 7 s | 9 s |")


def test_rows_that_are_not_measured_again_stay() -> None:
    one = accuracy.Outcome(test=0.99, dev=None, wall=9.0, training=7.0)
    two = replace(one, test=0.98)
    whole = accuracy.lines({"default": [one], "fast": [one], "best": [one]})
    published = "\n".join(["# Accuracy", "", *whole, "", "on a machine", ""])
    changed = accuracy.lines({"fast": [two]})
    expected = [*whole[:3], changed[-1], whole[-1]]
    assert accuracy.merged(changed, "on a machine", published) == expected
    assert accuracy.merged(changed, "on a machine", "") == changed
    everything = accuracy.lines({row: [two] for row in accuracy.ROWS})
    assert accuracy.merged(everything, "elsewhere", published) == everything
    more_seeds = accuracy.lines({"fast": [two, two]})
    for text, about in ((changed, "elsewhere"), (more_seeds, "on a machine")):
        with pytest.raises(SystemExit, match=r"of another machine or of other seeds; publish all"):
            accuracy.merged(text, about, published)


def test_a_run_that_is_done_is_not_trained_again(tmp_path: Path) -> None:
    run = tmp_path / "default-3"
    run.mkdir()
    (run / "history.csv").write_text("epoch,seconds\n1,2.5\n2,3.5\n", encoding="utf-8")
    told = {"accuracy": 0.5, "dev_accuracy": 0.25, "seconds": 9.0}
    (tmp_path / "default-3.json").write_text(json.dumps(told), encoding="utf-8")
    assert accuracy.outcome("default", 3, tmp_path) == accuracy.Outcome(0.5, 0.25, 9.0, 6.0)


def test_the_chart_is_drawn_alike_twice(tmp_path: Path, findings: Findings) -> None:
    drawn = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        chart.write(findings.rows, "title", folder)
        assert {path.name for path in folder.iterdir()} == set(chart.LOOKS)
        drawn.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert drawn[0] == drawn[1]
    for picture in drawn[0]:
        assert ET.fromstring(picture).tag.endswith("svg")


def test_a_worker_computes_and_reports_its_faults() -> None:
    with Worker("mnist100", 1) as ours:
        assert ours.ask("modes", workload="gemm fc2 dX") == ["mnist100"]
        assert ours.prepare("gemm fc2 dX", "mnist100")["y"].shape == (256, 256)
        assert ours.ask("time", workload="gemm fc2 dX", mode="mnist100", calls=2) > 0
        assert ours.ask("facts")["threads"] == 1
        with pytest.raises(WorkerError, match="KeyError"):
            ours.ask("time", workload="gemm fc2 dW", mode="mnist100", calls=2)
        assert ours.ask("modes", workload="step") == ["mnist100"]  # still there


def test_a_worker_that_cannot_start_is_an_error() -> None:
    with (
        Worker("mnist100", 1, MNIST100_ISA="nothing") as ours,
        pytest.raises(WorkerError, match="the mnist100 worker ended with 1"),
    ):
        ours.ask("facts")


def test_idx_files_as_the_package_reads_them(tmp_path: Path) -> None:
    import inputs

    written = inputs.digits(30)
    startup.write_idx(written, tmp_path, "train")
    startup.write_idx(inputs.digits(7), tmp_path, "t10k")
    train, test = read_folder(tmp_path)
    np.testing.assert_array_equal(train.images, written.images)
    np.testing.assert_array_equal(train.labels, written.labels)
    assert len(test) == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--threads", "0"], "--threads: got 0, wants 1 to"), (["--quick"], "wants a folder")],
)
def test_options_are_checked(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        report.options(arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_kernels_of_a_gpu_are_added_up_by_name() -> None:
    def event(name: str, at: float, took: float, kind: str = "kernel") -> dict[str, object]:
        found = {"name": name, "cat": kind, "ts": at, "dur": took}
        return {**found, "args": {"grid": [8, 2, 1], "registers per thread": 40}}

    first = "void mnist100::cuda::(anonymous namespace)::first<mnist100::cuda::Bf16>(int, float*)"
    events = [event("second", 30, 1.5), event(first, 10, 2), event(first, 50, 4)]
    assert rows([*events, event("host", 0, 9, "cpu_op")], 2) == [
        ["first<Bf16>", "1.00", "3.00", "8×2×1", "40"],
        ["second", "0.50", "0.75", "8×2×1", "40"],
    ]
