"""What the trials of a search try: given values, or draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mnist100 import _checks, functional

# A search and the training in it have the same seed; with a key of its own, a trial's values share no
# random word with the pairing or the order of an epoch.
_POINT_KEY = 0x9E3779B9


@dataclass(frozen=True)
class Point:
    """The values that a trial tries, as `mnist100.training.Recipe` names them."""

    learning_rate: float
    reg_lambda: float

    def as_dict(self) -> dict[str, float]:
        """Return the values by name."""
        return {"learning_rate": self.learning_rate, "reg_lambda": self.reg_lambda}


def sweep_points(learning_rates: Sequence[float], reg_lambda: float) -> tuple[Point, ...]:
    """Return a point for each learning rate, in the order given, all with the same λ."""
    return tuple(Point(rate, reg_lambda) for rate in learning_rates)


def random_points(
    trials: int,
    *,
    learning_rate: tuple[float, float],
    reg_lambda: tuple[float, float],
    seed: int,
) -> tuple[Point, ...]:
    """Draw points log-uniformly, rounded to four digits.

    A point depends on the seed, the ranges and its place alone: a longer list begins with a shorter one.

    Parameters
    ----------
    trials
        How many, at least 1.
    learning_rate, reg_lambda
        Least and largest value, both above 0.
    seed
        Of the draws, from 0 to 2^64 - 1.

    Raises
    ------
    ValueError
        If a range is not one, or a number is out of range.
    """
    _checks.integer("trials", trials, 1)
    for name, bounds in (("learning_rate", learning_rate), ("reg_lambda", reg_lambda)):
        if not 0 < bounds[0] <= bounds[1] < math.inf:
            raise _checks.fail(name, bounds, "0 < least <= largest, both finite")
    seed = _checks.word("seed", seed) ^ _POINT_KEY
    draws = (functional.uniform((2,), seed=seed, step=trial) for trial in range(trials))
    return tuple(
        Point(_log_uniform(first, *learning_rate), _log_uniform(second, *reg_lambda))
        for first, second in draws
    )


def _log_uniform(draw: float, low: float, high: float) -> float:
    value = math.exp(math.log(low) + draw * (math.log(high) - math.log(low)))
    # Four digits can be read and typed again; no finer difference could be measured.
    return min(max(float(f"{value:.3e}"), low), high)
