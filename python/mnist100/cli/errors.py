"""The ways a command can end before its work is done."""

from __future__ import annotations


class CommandError(Exception):
    """A failure; the message is one line that says what to do. Exit code 1."""


class UsageError(Exception):
    """An option's value that only the data could show to be wrong. Exit code 2."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message says what was kept. Exit code 130."""
