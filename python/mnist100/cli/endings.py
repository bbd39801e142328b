"""How a run ends before its time: what is kept, and what to do next."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnist100.cli.errors import CommandError, Interrupted
from mnist100.training import TrainingError, run_folder
from mnist100.training.interrupt import Interruption


@contextmanager
def explained(out: Path) -> Iterator[None]:
    """Turn what ends a run before its time into a line that says what was kept.

    A run that has nothing to go on from, or would only fail again, takes its files away.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        number = error.signal if isinstance(error, Interruption) else signal.SIGINT
        raise Interrupted(_how_to_go_on(out), 128 + number) from None
    except TrainingError as error:
        raise CommandError(
            f"{error} (--learning-rate, --reg-lambda); {_what_is_left(out)}"
        ) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(
            f"{error.filename or out}: cannot be written ({error.strerror or error}); make room "
            f"or give another --out; {_how_to_go_on(out)}"
        ) from error


@contextmanager
def explained_test(out: Path) -> Iterator[None]:
    """Say that training is done if Ctrl-C comes after it."""
    try:
        yield
    except KeyboardInterrupt:
        line = f"training is complete; test it: mnist100 evaluate {shlex.quote(str(out))}"
        raise Interrupted(line) from None


def _how_to_go_on(out: Path) -> str:
    if not (out / run_folder.LAST).exists():
        run_folder.discard(out)
        return "no step was taken, so nothing was kept"
    return f"go on with: mnist100 train --resume --out {shlex.quote(str(out))}"


def _what_is_left(out: Path) -> str:
    best = run_folder.best_model(out)
    if best is None:
        run_folder.discard(out)
        return "no epoch was finished, so nothing was kept"
    return f"the best model so far is kept in {best}"
