"""Ctrl-C and SIGTERM, held back until a run has come to a place where it can stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption(KeyboardInterrupt):
    """A signal ended a run between two steps, after its state was saved.

    Attributes
    ----------
    signal : the signal's number
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


class HeldSignals:
    """What `hold_signals` yields: which signal has come, if any."""

    def __init__(self) -> None:
        self.received: int | None = None

    def raise_received(self) -> None:
        """Raise `Interruption` if a signal has come."""
        if self.received is not None:
            raise Interruption(self.received)


_outer: HeldSignals | None = None


@contextmanager
def hold_signals() -> Iterator[HeldSignals]:
    """Note the first Ctrl-C or SIGTERM instead of obeying it; the second one works as ever.

    A block within a block shares what is noted; the outer one raises it when it ends, if nothing in it
    has. Only the main thread receives signals; in any other the block runs unchanged.

    Raises
    ------
    Interruption
        At the end of the block, if a signal has come.
    """
    global _outer
    if threading.current_thread() is not threading.main_thread():
        yield HeldSignals()
        return
    if _outer is not None:
        yield _outer
        return
    held = _outer = HeldSignals()
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def give_back() -> None:
        for number, handler in previous.items():
            # None is a handler that was not set from Python, and cannot be set back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def note(number: int, _: object) -> None:
        held.received = number
        give_back()

    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:  # whoever started us wants the signal ignored
            signal.signal(number, note)
    try:
        yield held
    finally:
        give_back()
        _outer = None
    held.raise_received()
