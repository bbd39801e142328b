"""Learning-rate schedules: the rate of each optimiser step of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

WARM_UP = 0.3  # part of the run in which the rate rises
START_DIVISOR = 25.0  # the first rate is peak / 25

Schedule = Callable[[int, int, float], float]


def constant(step: int, total: int, peak: float) -> float:
    """Return `peak`, whatever the step."""
    _check(step, total)
    return peak


def one_cycle(step: int, total: int, peak: float, final_div_factor: float = 1e4) -> float:
    """Return the one-cycle rate of a step: a cosine up to the peak, then a cosine down.

    The rate rises from peak/25 to the peak over the first 30 % of the steps and falls to
    (peak/25)/`final_div_factor` at the last. Smith and Topin, "Super-convergence: very fast training of neural
    networks using large learning rates" (2018), with the cosine and the constants that PyTorch's
    ``OneCycleLR`` uses; the values are the same as there.

    Parameters
    ----------
    step
        The step, from 0 to ``total - 1``.
    total
        The number of steps in the whole run.
    peak
        The highest rate.
    final_div_factor
        The first rate over the last; 1e4 ends at next to nothing.

    Raises
    ------
    ValueError
        If `step` is not one of `total` steps.
    """
    _check(step, total)
    start = peak / START_DIVISOR
    end = start / final_div_factor
    top = WARM_UP * total - 1  # where the peak lies; not a whole step in general
    last = total - 1
    if step <= top and step < last:
        return _cosine(start, peak, step / top)
    return _cosine(peak, end, (step - top) / (last - top))


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))


def _check(step: int, total: int) -> None:
    if not 0 <= step < total:
        raise ValueError(f"step: got {step}, wants at least 0 and below total, {total}")


def schedule(name: str, final_div_factor: float) -> Schedule:
    """Return the schedule a recipe calls ``"constant"`` or ``"one-cycle"``."""
    return constant if name == "constant" else partial(one_cycle, final_div_factor=final_div_factor)
