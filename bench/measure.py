"""Contests: one workload on every library, verified, then timed in turns in separate processes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console

from timing import Rounds, Spread, fastest, interleaved, ratio
from worker import Worker, WorkerError
from workloads import EPOCH, STEP, Array, DisagreementError, Workload, verify

OURS = "mnist100"
NUMPY = "NumPy"
TITLES = {"mnist100": OURS, "torch": "PyTorch", "numpy": NUMPY}


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes
    ----------
    rounds : turns that everyone has where a goal's ratio rests on them
    detail_rounds : turns elsewhere, of whole epochs too
    slot_seconds : that the fastest fills in a turn
    budget_seconds : after which a contestant sits out, see `timing.interleaved`
    compiled : whether PyTorch's compiled modes take part
    starts : turns of fresh processes
    """

    rounds: int
    detail_rounds: int
    slot_seconds: float
    budget_seconds: float
    compiled: bool
    starts: int


FULL = Effort(25, 7, 0.05, 3.0, True, 20)
QUICK = Effort(3, 2, 0.01, 0.3, False, 3)


@dataclass(frozen=True)
class Contest:
    """The times of one workload by contestant ("mnist100", "PyTorch MODE", "NumPy"), and who could not run."""

    workload: Workload
    times: Rounds
    failures: dict[str, str] = field(default_factory=dict)

    def seconds(self, who: str = OURS) -> float:
        """Median seconds of a call."""
        return statistics.median(self.times[who])

    def rivals(self, prefix: str = "PyTorch") -> list[str]:
        """Those contestants whose name begins so."""
        return [who for who in self.times if who.startswith(prefix)]

    def best(self, *prefixes: str) -> str:
        """The fastest rival with one of these prefixes, PyTorch's if none is given."""
        names = [who for prefix in prefixes or ("PyTorch",) for who in self.rivals(prefix)]
        return fastest(self.times, names)

    def gain(self, rival: str) -> Spread:
        """How many times as fast as a rival we are."""
        return ratio(self.times[rival], self.times[OURS])


class Lab:
    """The workers, and how much to measure with them."""

    def __init__(self, threads: int, effort: Effort, console: Console) -> None:
        self.threads = threads
        self.effort = effort
        self.console = console
        self._stack = ExitStack()
        self.ours, self.torch, self.numpy = (
            self._stack.enter_context(Worker(name, threads)) for name in TITLES
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def contest(self, workload: Workload, *, numpy: bool = True, detail: bool = False) -> Contest:
        """Verify a workload on every library, then time it; PyTorch's first mode is the reference.

        Raises
        ------
        DisagreementError
            If our result is not PyTorch's.
        """
        outputs: dict[str, dict[str, Array]] = {}
        turns: dict[str, Callable[[int], float]] = {}
        failures: dict[str, str] = {}
        workers = [self.torch, self.ours, *([self.numpy] if numpy else [])]
        for worker in workers:
            for mode in worker.ask("modes", workload=workload.name):
                if "bare" in mode or ("compile" in mode and not self.effort.compiled):
                    continue
                who = TITLES[worker.name] + (f" {mode}" if worker is self.torch else "")
                try:
                    outputs[who] = worker.prepare(workload.name, mode)
                    verify(workload, who, outputs[who], next(iter(outputs.values())))
                except (WorkerError, DisagreementError) as error:
                    if worker is self.ours:
                        raise
                    failures[who] = str(error)
                    outputs.pop(who, None)
                else:
                    turns[who] = self._turn(worker, workload, mode)
        contest = Contest(workload, self.rounds(turns, detail=detail), failures)
        for worker in workers:
            worker.ask("forget")
        self._tell(contest)
        return contest

    def rounds(
        self,
        turns: dict[str, Callable[[int], float]],
        *,
        detail: bool = False,
        patient: bool = False,
    ) -> dict[str, list[float]]:
        """Time contestants by this lab's effort; nobody sits out if the lab is patient."""
        effort = self.effort
        return interleaved(
            turns,
            rounds=effort.detail_rounds if detail else effort.rounds,
            slot_seconds=effort.slot_seconds,
            budget_seconds=math.inf if patient else effort.budget_seconds,
        )

    def epoch(self) -> dict[str, list[float]]:
        """Epochs with their batch-making and the same number of bare steps, in one process."""
        modes = self.ours.ask("modes", workload=EPOCH.name)
        expected = self.torch.prepare(EPOCH.name, self.torch.ask("modes", workload=EPOCH.name)[0])
        for mode in modes:
            verify(EPOCH, mode, self.ours.prepare(EPOCH.name, mode), expected)
        turns = {mode: self._turn(self.ours, EPOCH, mode) for mode in modes}
        times = self.rounds(turns, detail=True, patient=True)
        self.ours.ask("forget")
        self.torch.ask("forget")
        return times

    def scaling(self, counts: Sequence[int]) -> dict[int, list[float]]:
        """Our training step on each number of threads, in one process."""
        self.ours.prepare(STEP.name, OURS)
        turns = {str(n): self._turn(self.ours, STEP, OURS, threads=n) for n in counts}
        times = self.rounds(turns)
        self.ours.ask("forget")
        return {int(n): seconds for n, seconds in times.items()}

    def instruction_sets(
        self, names: Sequence[str]
    ) -> tuple[dict[str, list[float]], dict[str, Any]]:
        """Our training step on each instruction set, a process each, and the peak of each in GFLOP/s."""
        with ExitStack() as stack:
            workers = {
                name: stack.enter_context(Worker(OURS, self.threads, MNIST100_ISA=name))
                for name in names
            }
            found = {name: worker.prepare(STEP.name, OURS) for name, worker in workers.items()}
            for name, outputs in found.items():
                verify(STEP, name, outputs, found[names[0]])
            turns = {name: self._turn(one, STEP, OURS) for name, one in workers.items()}
            times = self.rounds(turns)
            peaks = {
                name: one.ask("fma_peak", threads=self.threads) for name, one in workers.items()
            }
        return times, peaks

    @staticmethod
    def _turn(worker: Worker, workload: Workload, mode: str, **more: Any) -> Callable[[int], float]:
        def turn(calls: int) -> float:
            return float(worker.ask("time", workload=workload.name, mode=mode, calls=calls, **more))

        return turn

    def _tell(self, contest: Contest) -> None:
        others = [who for who in contest.times if who != OURS]
        line = f"{contest.workload.name}: {1e3 * contest.seconds():.3g} ms"
        if others:
            best = fastest(contest.times, others)
            line += f", {contest.gain(best).median:.2f}× {best}"
        self.console.print(line, highlight=False)
        for who, why in contest.failures.items():
            self.console.print(f"  {who} is unavailable: {why}", style="yellow")
