"""Sums over the steps of one epoch so far."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class Tally:
    """What the steps of an epoch have come to; made anew, or from a run that was interrupted in it.

    Parameters
    ----------
    epoch
        Counted from 1.
    step, images
        Steps taken, and training pairs seen in them.
    loss_sum
        Sum over these pairs of the loss of their step.
    learning_rate
        The rate of the last step.
    seconds
        Time spent in the steps; the time between an interruption and going on does not count.
    """

    epoch: int
    step: int = 0
    images: int = 0
    loss_sum: float = 0.0
    learning_rate: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.start_clock()

    def start_clock(self) -> None:
        """Count time from now on."""
        self._started = time.perf_counter() - self.seconds

    def add(self, loss: float, images: int, learning_rate: float) -> None:
        """Take in one step."""
        self.step += 1
        self.images += images
        self.loss_sum += loss * images
        self.learning_rate = learning_rate
        self.seconds = time.perf_counter() - self._started

    def add_rest(self, loss_sum: float, step: int, images: int, learning_rate: float) -> None:
        """Take in all steps up to number `step`, with which the sums are `loss_sum` and `images`."""
        self.step = step
        self.images = images
        self.loss_sum = loss_sum
        self.learning_rate = learning_rate
        self.seconds = time.perf_counter() - self._started

    @property
    def images_per_second(self) -> float:
        """Training pairs a second."""
        return self.images / max(self.seconds, 1e-9)  # a coarse clock may show no time at all
