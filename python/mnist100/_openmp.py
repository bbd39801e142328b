"""How OpenMP's threads wait for each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Rounds of GNU OpenMP's busy-waiting at a barrier before a thread sleeps; its own choice is 300,000, some
# milliseconds, which on a busy machine are taken from the very thread that is waited for.
SPIN_COUNT = "3000"


@contextmanager
def short_spin() -> Iterator[None]:
    """GNU OpenMP, if it is loaded inside the block, spins briefly.

    It reads the setting once, when it is loaded; the user's own setting wins, and the environment is left
    as it was.
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]
