"""The command ``mnist100``: picks the subcommand and turns what goes wrong into one line."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import mnist100
from mnist100.cli.errors import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    CommandError,
    Interrupted,
    UsageError,
)

COMMANDS = {
    "prepare": "write pairs to CSV or npz files",
    "train": "train a network and test it",
    "evaluate": "measure a trained network on test data",
    "predict": "read the numbers in pictures",
    "serve": "open a page on which to draw a number and see it read",
    "export": "write a model for ONNX, PyTorch or NumPy",
    "lr-sweep": "compare learning rates on dev",
    "random-search": "draw learning rates and L2 strengths at random and compare them on dev",
    "auto-train": "search at random, then train the network with the best values and test it",
    "shifts": "measure trained networks on test images that have moved",
    "plot": "draw the curves of one run or several",
    "info": "show version, instruction sets, threads and compiler",
}

# Raised on purpose, with a message that stands on its own.
_EXPECTED = (CommandError, UsageError, OSError, ValueError, RuntimeError)


def module_name(command: str) -> str:
    """Return the name of a command's module in this package: ``lr_sweep`` of ``lr-sweep``."""
    return command.replace("-", "_")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class _CommandParser(_Parser):
    """The parser of one command; imports the command's module only when it is that one's turn."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        module = importlib.import_module(f"mnist100.cli.{module_name(self.prog.split()[-1])}")
        self.description = module.__doc__
        module.add_options(self)
        self.add_argument("--debug", action="store_true", help="show a traceback when it fails")
        self.set_defaults(run=module.run)
        return super().parse_known_args(args, namespace)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    0 is success, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM, and 1 any other failure, which is told in one
    line on standard error.
    """
    _prepare_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parser().parse_args(arguments)
        options.command = shlex.join(["mnist100", *arguments])
        with _sigterm_raised():
            options.run(options)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # all end in one line
        _abandon_output()
        with contextlib.suppress(OSError):
            if "--debug" in arguments:
                traceback.print_exception(error)
            else:
                _tell(error)
        return _exit_code(error)
    return 0


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Let SIGTERM raise, as Ctrl-C does, so that a file begun is removed."""

    def stop(number: int, _: object) -> NoReturn:
        raise Interrupted("", 128 + number)

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # stays open to the end
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # not every encoding has a dash


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mnist100", description="Recognise two-digit handwritten numbers.")
    version = f"%(prog)s {mnist100.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_CommandParser)
    for name, help_text in COMMANDS.items():
        commands.add_parser(name, help=help_text)
    return parser


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return error.code if isinstance(error, Interrupted) else EXIT_INTERRUPTED
    return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILURE


def _tell(error: BaseException) -> None:
    """Say on standard error, in one line, what happened and what to do."""
    text = " ".join(_text(error).split())
    if isinstance(error, BrokenPipeError):
        return  # whoever read the output has had enough of it
    if isinstance(error, KeyboardInterrupt):
        line = f"mnist100: interrupted: {text or 'nothing was written'}"
    elif isinstance(error, MemoryError):
        why = f" ({text})" if text else ""
        line = f"mnist100: error: not enough memory{why}; try a smaller --batch-size"
    elif isinstance(error, _EXPECTED) and text:
        line = f"mnist100: error: {text}"
    else:
        line = f"mnist100: error: {type(error).__name__}: {text}; --debug shows where"
    print(line, file=sys.stderr, flush=True)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _abandon_output() -> None:
    """Write what standard output still holds; if that fails, keep Python from trying again."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
