"""RESULTS.md and the table in the README, from what was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from goals import Row, milliseconds
from measure import NUMPY, OURS, Contest

HOW = """\
Each library computes in a process of its own, and they take turns: medians of the rounds, and the
quartiles of the ratios within a round. Results were compared before they were timed. PyTorch: the fastest of
eager, channels_last and torch.compile in both layouts (for inference with its weights frozen), default
precision, fused Adam, gradients set to None; dropout on both sides, batches ready. Of several shapes, the
least gain counts. `im2col`, `col2im` and `max_pool2d` allocate their results on both sides; `gemm` writes to
`out=`. An epoch is pairing, shuffling, gathering, augmentation, steps and averaged weights by the default
recipe. The share of the peak is that of all threads together."""

DENSE = """\
GFLOP/s count the dense computation. A conv block's backward pass does only the live part of it: a quarter (one
place in each 2×2 window) of the share of windows whose maximum is above zero. PyTorch's backward is one call of
autograd with the forward pass kept."""

REPORT, ACCURACY = "bench/report.py", "bench/accuracy.py"  # who writes into the README


def markers(script: str) -> tuple[str, str]:
    """The README's lines between which a script writes."""
    return f"<!-- {script}: begin -->", f"<!-- {script}: end -->"


@dataclass(frozen=True)
class Findings:
    """What one run of report.py measured.

    Attributes
    ----------
    command, threads, minutes : how, on how many threads, and how long it took
    load : of the machine before it began
    facts : by library: its version and settings
    peak, peaks : multiply-adds on registers, GFLOP/s: of the instruction set in use, and by set
    bandwidth : of copies, GB/s
    rows : of the table of goals
    contests : of the detailed table
    epoch : whole epochs
    live : share of live windows, by block and moment
    """

    command: str
    threads: int
    minutes: float
    load: float
    facts: Mapping[str, Mapping[str, Any]]
    peak: float
    peaks: Mapping[str, float]
    bandwidth: float
    rows: Sequence[Row]
    contests: Sequence[Contest]
    epoch: Contest
    live: Mapping[str, float]


def setting(findings: Findings) -> str:
    """The machine and the versions."""
    ours, torch, numpy = (findings.facts[name] for name in ("mnist100", "torch", "numpy"))
    return (
        f"{machine()}; {findings.threads} threads. mnist100 {ours['version']} ({ours['isa']}, "
        f"{ours['compiler']}), PyTorch {torch['version']}, NumPy {numpy['version']}, "
        f"Python {platform.python_version()}."
    )


def document(findings: Findings) -> list[str]:
    """The lines of RESULTS.md: the table of goals first."""
    sets = ", ".join(f"{gflops:.0f} GFLOP/s ({name})" for name, gflops in findings.peaks.items())
    measured = (
        f"`{findings.command}`, {datetime.now(UTC):%Y-%m-%d}, {findings.minutes:.1f} minutes; load of the "
        f"machine before: {findings.load:.1f}. Multiply-adds on registers alone reach {sets} on "
        f"{findings.threads} threads, copies of 64 MB arrays {findings.bandwidth:.3g} GB/s, read and "
        "written together."
    )
    return [
        "# Results",
        "",
        *goal_table(findings.rows),
        "",
        setting(findings),
        "",
        measured,
        "",
        HOW,
        "",
        "## Every workload",
        "",
        *detail_table(findings.contests, findings.peak, findings.threads),
        "",
        DENSE,
        "",
        *live_table(findings.live),
        "",
        *epoch_table(findings.epoch),
        "",
    ]


def readme_lines(findings: Findings) -> list[str]:
    """What the README says between its markers."""
    return [*short_table(findings.rows), "", setting(findings)]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def goal_table(rows: Sequence[Row]) -> list[str]:
    """The table of goals, in full."""
    head = ["measured, fp32", "result", "quartiles", "floor", "goal", "verdict", "how"]
    return table(head, (row.cells() for row in rows))


def short_table(rows: Sequence[Row]) -> list[str]:
    """The rows that compare with other libraries, for the README."""
    cells = [row.cells() for row in rows if row.charted]
    return table(
        ["fp32", "times as fast", "quartiles", "how"],
        ([what, value, spread, how] for what, value, spread, *_, how in cells),
    )


def detail_table(contests: Iterable[Contest], peak: float, threads: int) -> list[str]:
    """Every contest: medians, the gain over the fastest other, GFLOP/s and their share of the peak, GB/s."""
    rows = []
    for contest in contests:
        workload = contest.workload
        cells = [workload.name, milliseconds(contest.seconds())]
        rivals = contest.rivals() + contest.rivals(NUMPY)
        cells.append(
            "<br>".join(f"{who} {milliseconds(contest.seconds(who))}" for who in rivals)
            + "".join(f"<br>{who} unavailable" for who in contest.failures)
        )
        gain = contest.gain(contest.best("PyTorch", NUMPY))
        cells.append(f"{gain.median:.2f}× ({gain.low:.2f} – {gain.high:.2f})")
        reachable = peak / threads if workload.serial else peak
        cells.append(_rate(workload.flops, contest.seconds(), reachable))
        cells.append(f"{workload.moved / contest.seconds() / 1e9:.1f}" if workload.moved else "")
        rows.append(cells)
    head = [
        f"workload, {OURS}",
        "time",
        "others",
        "gain over the best",
        "GFLOP/s (of peak)",
        "GB/s",
    ]
    return table(head, rows)


def _rate(flops: float, seconds: float, peak: float) -> str:
    if not flops:
        return ""
    rate = flops / seconds / 1e9
    return f"{rate:.0f} ({rate / peak:.0%})"


def live_table(fractions: Mapping[str, float]) -> list[str]:
    """Shares of live windows."""
    return table(["conv block", "live"], ([name, f"{x:.0%}"] for name, x in fractions.items()))


def epoch_table(contest: Contest) -> list[str]:
    """Images a second of whole epochs."""
    (pairs,) = contest.workload.sizes
    return table(
        ["training, default recipe", "images/s"],
        ([who, f"{int(pairs) / contest.seconds(who):,.0f}"] for who in contest.times),
    )


def machine() -> str:
    """The processor's name and its number of cores."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        facts = {
            line.split(":")[0].strip(): line.split(":", 1)[1].strip()
            for line in lines
            if ":" in line
        }
        if models:
            name = models[0]
            name += f" (family {facts.get('cpu family')}, model {facts.get('model')})"
    except OSError:
        pass  # not Linux
    return f"{name}, {os.cpu_count()} cores"


def update_readme(readme: Path, lines: Sequence[str], script: str) -> None:
    """Put lines between the markers of a script in a README.

    Raises
    ------
    ValueError
        If it has no such markers.
    """
    first, last = markers(script)
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise ValueError(f"{readme}: got no markers, wants {first} and {last}")
    body = "\n".join(["", "", *lines, "", ""])
    readme.write_text(before + begin + body + end + after, encoding="utf-8")
