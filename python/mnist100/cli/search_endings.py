"""How a search ends before its time: what is kept, and what to do next."""

from __future__ import annotations

import argparse
import errno
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mnist100.cli.errors import CommandError, Interrupted, UsageError
from mnist100.cli.recipe_options import is_option
from mnist100.search import OtherSearchError, StudyError, TrialResult
from mnist100.training.interrupt import Interruption


def how_to_go_on(options: argparse.Namespace, out: Path) -> str:
    """Return the command that goes on with this one."""
    command: str = options.command
    return command if options.out else f"{command} --out {shlex.quote(str(out))}"


@contextmanager
def explained_search(
    again: str, out: Path, results: Sequence[TrialResult], trials: int
) -> Iterator[None]:
    """Turn what ends a search before its time into a line that says what to do."""
    try:
        yield
    except KeyboardInterrupt as error:
        number = error.signal if isinstance(error, Interruption) else signal.SIGINT
        done = f"{len(results)} of {trials} trials are done; go on with: {again}"
        raise Interrupted(done, 128 + number) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CommandError(
            f"{error.filename or out}: cannot be written ({error.strerror}); {len(results)} of {trials} "
            f"trials are done; make room and go on with: {again}"
        ) from error
    except OtherSearchError as error:
        raise _refusal(error, "--out" if error.place == str(out) else "--storage") from None
    except StudyError as error:
        raise UsageError(f"argument --{error}") from None


def _refusal(error: OtherSearchError, option: str) -> Exception:
    """Say how the command differs from the one that a folder or a study is of."""
    key = error.key.removeprefix("recipe.")
    if key == "command":
        return CommandError(
            f"{error.place}: holds a search by {error.had}, not {error.got}; give another {option}"
        )
    if key.startswith("data."):
        return CommandError(
            f"{error.place}: was searched with other data ({key.removeprefix('data.')}); bring those "
            f"back, or give another {option}"
        )
    named = f"--{key.replace('_', '-')}"
    if key != error.key and not is_option(key):
        named = f"--recipe: {key}"
    return UsageError(
        f"argument {named}: is {error.got!r}, but the search in {error.place} was started with "
        f"{error.had!r}; repeat that command to go on, or give another {option}"
    )
