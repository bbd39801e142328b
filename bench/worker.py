"""A process with one library in it, which runs workloads when it is told to.

`python worker.py mnist100|torch|numpy THREADS` reads requests, a JSON object a line, from standard
input and answers each with one line: {"answer": …} or {"error": "…"}. `Worker` is the other end.
Between requests it waits for input, so that only one of several workers computes at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from workloads import WORKLOADS, Array, Builders, Subject

LIBRARIES = ("mnist100", "torch", "numpy")


class WorkerError(RuntimeError):
    """A request that a worker could not meet; the message is the worker's."""


def library(name: str) -> tuple[Builders, Callable[[int], object]]:
    """The builders of a library, and the function that sets its threads."""
    import mnist100

    if name == "torch":
        import torch

        import pytorch

        return pytorch.builders(), torch.set_num_threads
    import kernels

    if name == "mnist100":
        return kernels.builders(name, mnist100.functional), mnist100.set_num_threads
    from threadpoolctl import threadpool_limits

    from mnist100.reference import numpy_backend

    return kernels.builders(name, numpy_backend), threadpool_limits


def set_threads(limit: Callable[[int], object], threads: int) -> None:
    """Limit a library's threads, and ours, which make the batches of its epochs."""
    import mnist100

    mnist100.set_num_threads(threads)
    limit(threads)


class Bench:
    """What a worker does, by the name of the request."""

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._builders, self._limit = library(name)
        self._threads = threads
        self._subjects: dict[tuple[str, str], Subject] = {}

    def modes(self, workload: str) -> list[str]:
        """The modes that the library has for a workload."""
        return list(self._builders.get(WORKLOADS[workload].operation, {}))

    def prepare(self, workload: str, mode: str, outputs: str) -> None:
        """Make a workload ready and write what it computes to a file."""
        set_threads(self._limit, self._threads_of(workload))
        chosen = WORKLOADS[workload]
        subject = self._builders[chosen.operation][mode](*chosen.sizes)
        np.savez(outputs, **subject.outputs())  # type: ignore[arg-type]  # the stub's allow_pickle
        self._subjects[workload, mode] = subject

    def time(self, workload: str, mode: str, calls: int, threads: int | None = None) -> float:
        """Seconds of a call."""
        from timing import seconds_a_call

        set_threads(self._limit, threads or self._threads_of(workload))
        return seconds_a_call(self._subjects[workload, mode].run, calls)

    def forget(self) -> None:
        """Free all that was prepared."""
        self._subjects.clear()

    def facts(self) -> dict[str, Any]:
        """Version and settings of the library."""
        if self._name == "torch":
            import torch

            return {"version": torch.__version__}
        if self._name == "numpy":
            return {"version": np.__version__}
        from mnist100._config import config

        return config()

    def fma_peak(self, threads: int) -> float:
        """GFLOP/s of the instruction set in use."""
        from timing import fma_peak

        return fma_peak(threads)

    def live_fractions(self, steps: int) -> dict[str, float]:
        """What is live at start values and after some steps (see `live.fractions`)."""
        import live

        return live.fractions(steps)

    def _threads_of(self, workload: str) -> int:
        return 1 if WORKLOADS[workload].serial else self._threads


class Worker:
    """A worker process, started and stopped as a context.

    Parameters
    ----------
    name : one of `LIBRARIES`
    threads : that its library computes with
    environment : variables to set for it
    """

    def __init__(self, name: str, threads: int, **environment: str) -> None:
        self.name = name
        self._scratch = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):  # it has died, with a request on its way
            self._process.__exit__(None, None, None)  # ends its input, and waits
        self._process.wait()
        self._scratch.cleanup()

    def ask(self, request: str, **arguments: Any) -> Any:
        """Have a request met and return the answer; raises WorkerError with the worker's words."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps([request, arguments]), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the {self.name} worker ended with {self._process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply["answer"]

    def prepare(self, workload: str, mode: str) -> dict[str, Array]:
        """Make a workload ready in a mode; return what it computes."""
        path = Path(self._scratch.name) / "outputs.npz"
        self.ask("prepare", workload=workload, mode=mode, outputs=str(path))
        with np.load(path, allow_pickle=False) as found:
            return dict(found)


def serve(name: str, threads: int) -> None:
    """Meet requests until the input ends."""
    with _private_stdout() as replies:
        bench = Bench(name, threads)
        for line in sys.stdin:
            request, arguments = json.loads(line)
            try:
                reply = {"answer": getattr(bench, request)(**arguments)}
            except Exception as error:  # noqa: BLE001  # the other end decides what it means
                reply = {"error": f"{type(error).__name__}: {error}"}
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


@contextmanager
def _private_stdout() -> Iterator[Any]:
    """Standard output for replies alone: what libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)
        yield replies


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
