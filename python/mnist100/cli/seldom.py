"""Do what takes long at most every so often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic


class Seldom:
    """What is done at most every so often, and at the end if it was left out last.

    Parameters
    ----------
    action
        What is done.
    seconds
        From the beginning, and from one time to the next, at least.
    """

    def __init__(self, action: Callable[[], None], seconds: float) -> None:
        self._action = action
        self._seconds = seconds
        self._last = monotonic()
        self._is_due = False

    def __call__(self) -> None:
        """Do it, unless it was done a moment ago."""
        self._is_due = True
        if monotonic() - self._last >= self._seconds:
            self._do()

    @contextmanager
    def at_the_end(self) -> Iterator[None]:
        """Do what was left out when the block ends, however it does."""
        try:
            yield
        finally:
            if self._is_due:
                self._do()

    def _do(self) -> None:
        self._action()
        self._last = monotonic()
        self._is_due = False
