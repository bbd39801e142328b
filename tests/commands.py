"""The command line, in processes of its own and in this one."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from threading import Timer
from typing import Any

from mnist100.cli.main import main
from support import PATIENCE

# The command whose words are given, except that its standard output, after the first line that begins with the
# first word, goes on only when there is a line on standard input: however slow the machine, what happens in between
# happens at that line.
_HELD = """
import sys
import mnist100_command

class Held:
    def __init__(self, file, start):
        self.file, self.start = file, start

    def write(self, text):
        self.file.write(text)
        if self.start and any(line.startswith(self.start) for line in text.splitlines()):
            self.start = None
            self.file.flush()
            sys.stdin.readline()

    def __getattr__(self, name):
        return getattr(self.file, name)

sys.stdout = Held(sys.stdout, sys.argv.pop(1))
sys.exit(mnist100_command.main())
"""


def mnist_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What ``mnist100`` does, in this process: a start of Python takes a second."""
    words = [str(word) for word in arguments]
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            code = main(words)
        except SystemExit as end:  # argparse's, at wrong usage
            code = int(end.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), errors.getvalue())


def mnist(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run ``mnist100`` in a process of its own and wait for it."""
    command = [sys.executable, "-m", "mnist100", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False, **settings
    )


@contextmanager
def killed_if_it_hangs(process: subprocess.Popen[str]) -> Iterator[None]:
    """Inside the block, whoever waits for a program is not kept waiting for longer than `PATIENCE`."""
    timer = Timer(PATIENCE, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def signalled(*arguments: object, at: str, number: int = signal.SIGINT) -> tuple[int, str]:
    """Run ``mnist100``, send it a signal at the first line that begins with `at`; return exit code and stderr."""
    command = [sys.executable, "-c", _HELD, at, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        with killed_if_it_hangs(process):
            assert any(line.startswith(at) for line in process.stdout), process.communicate()
            process.send_signal(number)
            _, errors = process.communicate("\n")
    return process.returncode, errors


def assert_one_line(result: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """Check a failure: its exit code, nothing on stdout, and one line that holds the parts."""
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert part in result.stderr
