"""The ways a command can end before its work is done."""

from __future__ import annotations

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count


class CommandError(Exception):
    """A failure; the message is one line that says what to do. Exit code 1."""


class UsageError(Exception):
    """An option's value that only the data could show to be wrong. Exit code 2."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM; the message says what was kept.

    Attributes
    ----------
    code : the exit code, 128 and the signal's number
    """

    def __init__(self, message: str, code: int = EXIT_INTERRUPTED) -> None:
        super().__init__(message)
        self.code = code
