"""The one place that times: slots, rounds that interleave, medians with their spread, and peaks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mnist100 import _core

# BLAS threads of whoever ran before spin for more than 50 ms before they sleep.
SETTLE_SECONDS = 0.1
# Cores that have rested as long take up to 30 ms to come back to speed.
WAKE_SECONDS = 0.05
# Multiply-adds of 64 blocks of the widest registers, 4 KiB a vector each: threads finish together.
FMA_FLOATS = 64 * 24 * 16
# A call this long fills the caches itself; a warm-up would only double its cost.
LONG_SECONDS = 0.3


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        if not values:
            raise ValueError("values: got none, wants at least one")
        low, median, high = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(low), float(high))


def seconds_a_call(run: Callable[[], object], calls: int) -> float:
    """Median over `calls`, after others have come to rest, cores to speed, and one call has warmed the caches."""
    time.sleep(SETTLE_SECONDS)
    wake()
    began = time.perf_counter()
    run()
    first = time.perf_counter() - began
    if first > LONG_SECONDS:
        return first
    spent = []
    for _ in range(calls):
        began = time.perf_counter()
        run()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def wake() -> None:
    """Keep the cores busy until they run at full speed, with work that is nobody's."""
    y = np.ones(FMA_FLOATS, np.float32)
    until = time.perf_counter() + WAKE_SECONDS
    while time.perf_counter() < until:
        _core.fma_rounds(y, 0.5, 1.0, 100)


Rounds = Mapping[str, Sequence[float]]
"""By contestant: its seconds in round 0, 1, …; the slow take part in fewer rounds."""


def interleaved(
    contestants: Mapping[str, Callable[[int], float]],
    *,
    rounds: int,
    slot_seconds: float,
    budget_seconds: float,
) -> dict[str, list[float]]:
    """Time contestants in turns, so that a machine that slows down does so for all of them.

    Parameters
    ----------
    contestants
        By name: a function that takes a number of calls and returns the seconds of one.
    rounds
        How often each has its turn.
    slot_seconds
        The fastest fills about as much in its turn; every other makes as many calls, so that
        training steps see equally trained weights.
    budget_seconds
        Who has spent more, and had two turns, sits out the remaining rounds.
    """
    first = {name: measure(1) for name, measure in contestants.items()}  # also compiles, allocates
    calls = max(1, min(200, round(slot_seconds / min(first.values()))))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    spent = dict.fromkeys(contestants, 0.0)
    for turn in range(rounds):
        # Every other round backwards, so that nobody always comes after the same one.
        for name in list(contestants)[:: 1 if turn % 2 == 0 else -1]:
            if spent[name] > budget_seconds and len(times[name]) >= 2:
                continue
            began = time.perf_counter()
            times[name].append(contestants[name](calls))
            spent[name] += time.perf_counter() - began
    return times


def ratio(slower: Sequence[float], faster: Sequence[float]) -> Spread:
    """How many times as long `slower` takes, round by round."""
    rounds = min(len(slower), len(faster))
    return Spread.of([a / b for a, b in zip(slower[:rounds], faster[:rounds], strict=True)])


def fastest(rounds: Rounds, names: Sequence[str] | None = None) -> str:
    """The name with the smallest median."""
    return min(names or rounds, key=lambda name: statistics.median(rounds[name]))


def fma_peak(threads: int) -> float:
    """Multiply-adds on registers alone: GFLOP/s of the instruction set in use on so many threads."""
    before = _core.num_threads()
    _core.set_num_threads(threads)
    y = np.ones(FMA_FLOATS, np.float32)
    rounds = 10_000
    try:
        best = min(
            seconds_a_call(lambda: _core.fma_rounds(y, 0.5, 1.0, rounds), 3) for _ in range(3)
        )
    finally:
        _core.set_num_threads(before)
    return 2 * y.size * rounds / best / 1e9


def copy_bandwidth(threads: int) -> float:
    """GB/s, read and written, of NumPy copies far larger than the caches, one a thread."""
    size = 64 << 20  # bytes: four of these are beyond every second-level cache
    arrays = [
        (np.ones(size // 4, np.float32), np.empty(size // 4, np.float32)) for _ in range(threads)
    ]
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), arrays))

        return 2 * size * threads / seconds_a_call(copy, 9) / 1e9
