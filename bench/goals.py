"""The table of goals: every row measured, with what it has to reach."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from measure import NUMPY, Contest
from timing import Spread, ratio


@dataclass(frozen=True)
class Goal:
    """What a row has to reach: at least, or at most, its floor, and if possible its goal."""

    floor: float
    goal: float
    unit: str = "×"
    at_least: bool = True

    def verdict(self, value: float) -> str:
        """How far a value comes."""

        def reaches(bound: float) -> bool:
            return value >= bound if self.at_least else value <= bound

        if reaches(self.goal):
            return "goal met"
        return "floor met" if reaches(self.floor) else "not met"

    def text(self, value: float) -> str:
        """A value or bound with its unit."""
        if self.unit == "MB":
            return f"{value:.0f} MB"
        if self.unit == "%":
            return f"{100 * value:.0f} %"
        return f"{value:.2f}×" if self.unit == "×" else f"{value:.3g} {self.unit}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what : is measured
    goal : to reach
    value : its median and quartiles; None if it could not be measured
    against : what it was measured against and how, or why it could not be
    charted : whether it is a gain over another library
    """

    what: str
    goal: Goal
    value: Spread | None
    against: str
    charted: bool = False

    def cells(self) -> list[str]:
        """As text: what, measured, quartiles, floor, goal, verdict, against."""
        bounds = [self.goal.text(self.goal.floor), self.goal.text(self.goal.goal)]
        if self.value is None:
            return [self.what, "–", "–", *bounds, "skipped", self.against]
        low, high = self.goal.text(self.value.low), self.goal.text(self.value.high)
        measured = self.goal.text(self.value.median)
        verdict = self.goal.verdict(self.value.median)
        return [self.what, measured, f"{low} – {high}", *bounds, verdict, self.against]


def milliseconds(seconds: float) -> str:
    """Three digits."""
    return f"{1e3 * seconds:.3g} ms"


def gain_row(what: str, goal: Goal, contest: Contest) -> Row:
    """How many times as fast as PyTorch's best mode."""
    best = contest.best()
    against = (
        f"{best} {milliseconds(contest.seconds(best))}, ours {milliseconds(contest.seconds())}"
    )
    return Row(what, goal, contest.gain(best), against, charted=True)


def worst_row(what: str, goal: Goal, contests: Sequence[Contest], rival: str) -> Row:
    """The smallest gain over one rival at several shapes; every shape's is named."""
    gains = [contest.gain(rival) for contest in contests]
    each = ", ".join(
        f"{contest.workload.name.split()[-1]} {gain.median:.2f}×"
        for contest, gain in zip(contests, gains, strict=True)
    )
    worst = min(gains, key=lambda gain: gain.median)
    return Row(what, goal, worst, f"the lesser of {each}", charted=True)


def gemm_rows(contests: Sequence[Contest]) -> list[Row]:
    """Gains over the faster of NumPy and PyTorch, product by product: geometric mean and worst."""
    rivals = [contest.best("PyTorch", NUMPY) for contest in contests]
    gains = [
        [a / b for a, b in zip(contest.times[rival], contest.times["mnist100"], strict=False)]
        for contest, rival in zip(contests, rivals, strict=True)
    ]
    means = [math.exp(statistics.fmean(map(math.log, turn))) for turn in zip(*gains, strict=False)]
    worst = min(range(len(contests)), key=lambda i: statistics.median(gains[i]))
    name = contests[worst].workload.name.removeprefix("gemm ")
    return [
        Row(
            f"`gemm`, the network's {len(contests)} products, geometric mean",
            Goal(1.0, 1.15),
            Spread.of(means),
            "the faster of NumPy and PyTorch, product by product",
            charted=True,
        ),
        Row(
            "`gemm`, the worst product",
            Goal(0.85, 1.0),
            Spread.of(gains[worst]),
            f"{name}, against {rivals[worst]}",
            charted=True,
        ),
    ]


def contest_rows(found: Mapping[str, Contest]) -> list[Row]:
    """The rows that compare with other libraries, by the contests' workload names."""
    pools = [found["max_pool2d pool1"], found["max_pool2d pool2"]]
    rows = [
        gain_row("training step, batch 256", Goal(2.7, 3.5), found["step"]),
        gain_row("inference, batch 256", Goal(1.5, 2.0), found["inference 256"]),
        gain_row("inference, batch 1, one thread", Goal(2.0, 4.0), found["inference 1"]),
    ]
    for op, peer in (("im2col", "unfold"), ("col2im", "fold")):
        pair = [found[f"{op} conv1"], found[f"{op} conv2"]]
        rows.append(worst_row(f"`{op}` against `{peer}`", Goal(3.0, 5.0), pair, "PyTorch eager"))
    what = "`max_pool2d` forward + backward against"
    return [
        *rows,
        worst_row(f"{what} NCHW", Goal(4.0, 6.0), pools, "PyTorch eager"),
        worst_row(f"{what} channels_last", Goal(1.8, 2.5), pools, "PyTorch channels_last"),
        *gemm_rows([one for name, one in found.items() if name.startswith("gemm ")]),
    ]


def share_rows(contests: Sequence[Contest], peak: float) -> list[Row]:
    """The least share of the FMA peak (GFLOP/s) of the 3×3 layers from 32 channels on."""
    rows = []
    for operation, what in (("conv", "forward"), ("conv_backward", "backward")):
        shares = {
            one.workload.name.removeprefix(f"{operation} "): Spread.of(
                [one.workload.flops / seconds / 1e9 / peak for seconds in one.times["mnist100"]]
            )
            for one in contests
            if one.workload.operation == operation and one.workload.sizes[1] != 16
        }
        least = min(shares, key=lambda name: shares[name].median)
        rows.append(
            Row(
                f"3×3 layer without pool, 32→32 and above, {what}: share of the FMA peak",
                Goal(0.75, 0.75, "%"),
                shares[least],
                f"the least of {len(shares)} shapes: {least}",
            )
        )
    return rows


def epoch_row(times: Mapping[str, Sequence[float]]) -> Row:
    """An epoch with everything that makes its batches, over its bare steps."""
    value = ratio(times["mnist100"], times["mnist100, bare steps"])
    against = (
        f"{statistics.median(times['mnist100']):.3g} s against "
        f"{statistics.median(times['mnist100, bare steps']):.3g} s of bare steps"
    )
    return Row(
        "training epoch over its bare steps", Goal(1.15, 1.05, at_least=False), value, against
    )


def scaling_row(times: Mapping[int, Sequence[float]] | None) -> Row:
    """1 → 2 threads; None where there is one core."""
    goal = Goal(1.6, 1.85)
    what = "training step, 1 → 2 threads"
    if times is None:
        return Row(what, goal, None, "this machine has one core")
    one, two = (milliseconds(statistics.median(times[n])) for n in (1, 2))
    return Row(what, goal, ratio(times[1], times[2]), f"{one} → {two}")


def isa_row(widest: str, times: Mapping[str, Sequence[float]] | None, why: str) -> Row:
    """The AVX2 variant's speed as a share of the widest one's; None where there is nothing to compare."""
    goal = Goal(0.75, 0.9)
    what = "training step, AVX2 variant against the AVX-512 one"
    if times is None:
        return Row(what, goal, None, why)
    narrow, wide = (milliseconds(statistics.median(times[name])) for name in ("v3", widest))
    return Row(what, goal, ratio(times[widest], times["v3"]), f"v3 {narrow}, {widest} {wide}")


def memory_row(peak: int | None) -> Row:
    """Peak memory of a training run on 50,000 pairs; None where a quick run leaves it out."""
    goal = Goal(500, 300, "MB", at_least=False)
    what = "peak memory, training run of 50,000 pairs"
    if peak is None:
        return Row(what, goal, None, "left out by --quick")
    megabytes = peak / 1e6
    return Row(what, goal, Spread(megabytes, megabytes, megabytes), "one epoch, one process")


def start_rows(times: Mapping[str, Sequence[float]]) -> list[Row]:
    """Fresh processes, the interpreter's own start included."""
    others = ", ".join(
        f"`{name}` {statistics.median(times[name]):.2g} s"
        for name in ("python", "import numpy", "import torch")
    )
    bounds = {"import mnist100": (0.3, 0.15), "mnist100 --help": (0.5, 0.3)}
    return [
        Row(f"`{name}`", Goal(*limits, "s", at_least=False), Spread.of(times[name]), others)
        for name, limits in bounds.items()
    ]
